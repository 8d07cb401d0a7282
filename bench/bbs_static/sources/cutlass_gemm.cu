// CUTLASS's bf16 GEMM of the sweep's tile and warps, with four stages: what the main loops are compared with.
// The entry is cutlass::Kernel of cutlass/device_kernel.h, under a name that the report can look up.
#include "cutlass/gemm/device/gemm.h"

namespace gemm = cutlass::gemm;
using Gemm = gemm::device::Gemm<
    cutlass::bfloat16_t, cutlass::layout::RowMajor, cutlass::bfloat16_t, cutlass::layout::ColumnMajor, float,
    cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    gemm::GemmShape<128, 128, 32>, gemm::GemmShape<64, 64, 32>, gemm::GemmShape<16, 8, 16>,
    cutlass::epilogue::thread::LinearCombination<float, 4, float, float>,
    gemm::threadblock::GemmIdentityThreadblockSwizzle<>, 4>;

extern "C" __global__ void cutlass_gemm_bf16(Gemm::GemmKernel::Params params) {
  extern __shared__ int shared[];
  Gemm::GemmKernel kernel;
  kernel(params, *reinterpret_cast<Gemm::GemmKernel::SharedStorage*>(shared));
}
