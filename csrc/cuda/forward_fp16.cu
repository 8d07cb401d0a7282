// Forward kernels: fp16 rows and centres.
#include "launch_types.inl"

namespace bbs::cuda {
template struct LaunchTypes<Fp16, 2>;
}
