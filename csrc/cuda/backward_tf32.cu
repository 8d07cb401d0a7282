// Backward kernels: fp32 rows and centres, multiplied as tf32.
#include "backward_types.cuh"

namespace bbs::cuda {
template struct BackwardTypes<Tf32, 4>;
}
