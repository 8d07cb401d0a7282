// Forward kernels: fp32 rows and centres, exact.
#include "launch_types.inl"

namespace bbs::cuda {
template struct LaunchTypes<Fp32, 4>;
}
