// cos_lse forward and target cosines: bf16 operands.
#include "launch_forward.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_bf16 = {&launch_target<Mma16<Bf16>>, &launch_sweep<Mma16<Bf16>>};

}  // namespace bbs::cuda
