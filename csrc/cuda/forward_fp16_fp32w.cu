// cos_lse forward and target cosines: fp16 rows against fp32 centres.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_fp16_fp32w = {&launch_target<MmaMixed<Fp16>>, &launch_sweep<MmaMixed<Fp16>>};

}  // namespace bbs::cuda
