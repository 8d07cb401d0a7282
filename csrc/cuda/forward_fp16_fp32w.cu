// Forward kernels: fp16 rows and fp32 centres.
#include "launch_types.inl"

namespace bbs::cuda {
template struct LaunchTypes<Fp16, 4>;
}
