// Forward kernels: fp32 rows and centres, multiplied as tf32.
#include "launch_types.inl"

namespace bbs::cuda {
template struct LaunchTypes<Tf32, 4>;
}
