// cos_lse forward and target cosines: bf16 rows against fp32 centres.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_bf16_fp32w = {&launch_target<MmaMixed<Bf16>>, &launch_sweep<MmaMixed<Bf16>>};

}  // namespace bbs::cuda
