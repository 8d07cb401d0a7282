// Backward kernels: bf16 rows and centres.
#include "backward_types.cuh"

namespace bbs::cuda {
template struct BackwardTypes<Bf16, 2>;
}
