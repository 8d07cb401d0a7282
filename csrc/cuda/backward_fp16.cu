// Backward kernels: fp16 rows and centres.
#include "backward_types.inl"

namespace bbs::cuda {
template struct BackwardTypes<Fp16, 2>;
}
