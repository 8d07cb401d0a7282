// Backward kernels: fp16 rows and centres.
#include "backward_types.cuh"

namespace bbs::cuda {
template struct BackwardTypes<Fp16, 2>;
}
