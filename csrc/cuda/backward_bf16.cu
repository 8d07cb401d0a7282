// Backward kernels: bf16 rows and centres.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Bf16, 2>;
}
