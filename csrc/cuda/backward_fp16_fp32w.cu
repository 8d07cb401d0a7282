// Backward kernels: fp16 rows, fp32 centres.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Fp16, 4>;
}
