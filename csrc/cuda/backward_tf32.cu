// Backward kernels: fp32 rows and centres, multiplied as tf32.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Tf32, 4>;
}
