// cos_lse forward and target cosines: exact fp32.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_fp32 = {&launch_target<Simt>, &launch_sweep<Simt>};

}  // namespace bbs::cuda
