"""The table of kernels that are compiled and reported. A new kernel is a new row in one of its parts."""

from __future__ import annotations

from .backward_units import BACKWARD
from .forward_units import FORWARD
from .units import BASELINE, Kernel, Unit

_CUTLASS_SOURCE = """\
#include "cutlass/gemm/device/gemm.h"
namespace gemm = cutlass::gemm;
using Gemm = gemm::device::Gemm<cutlass::bfloat16_t, cutlass::layout::RowMajor, cutlass::bfloat16_t,
    cutlass::layout::ColumnMajor, float, cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp,
    cutlass::arch::Sm80, gemm::GemmShape<128, 128, 32>, gemm::GemmShape<64, 64, 32>, gemm::GemmShape<16, 8, 16>,
    cutlass::epilogue::thread::LinearCombination<float, 4, float, float>,
    gemm::threadblock::GemmIdentityThreadblockSwizzle<>, 4>;
template __global__ void cutlass::Kernel<Gemm::GemmKernel>(Gemm::GemmKernel::Params);
"""

UNITS: tuple[Unit, ...] = (
    Unit(
        "cutlass",
        _CUTLASS_SOURCE,
        (Kernel(BASELINE, "cutlass6Kernel", 128, shared=4 * 2 * 128 * 32 * 2),),
        cutlass=True,
    ),
    *FORWARD,
    *BACKWARD,
)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for unit in UNITS for kernel in unit.kernels}
