// Forward kernels: bf16 rows and centres.
#include "launch_types.inl"

namespace bbs::cuda {
template struct LaunchTypes<Bf16, 2>;
}
