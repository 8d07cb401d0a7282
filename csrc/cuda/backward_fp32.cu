// Backward kernels: fp32 rows and centres, multiplied exactly.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Fp32, 4>;
}
