// Backward kernels: bf16 rows, fp32 centres.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Bf16, 4>;
}
