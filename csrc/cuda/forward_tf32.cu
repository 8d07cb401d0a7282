// cos_lse forward and target cosines: fp32 operands as tf32.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_tf32 = {&launch_target<MmaTf32>, &launch_sweep<MmaTf32>};

}  // namespace bbs::cuda
