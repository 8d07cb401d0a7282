// cos_lse forward and target cosines: fp16 operands.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_fp16 = {&launch_target<Mma16<Fp16>>, &launch_sweep<Mma16<Fp16>>};

}  // namespace bbs::cuda
