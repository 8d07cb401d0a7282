"""The table of kernels that are compiled and reported. A new kernel is a new row: one `Unit` is one translation unit.

The sweeps are every instantiation that csrc/cuda/launch_types.inl can launch and, for reports only, those without the
norms: what they cost beside CUTLASS is what the loop itself costs.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPES = {"bf16": "Bf16", "fp16": "Fp16", "tf32": "Tf32", "fp32": "Fp32"}
COMBINATIONS = (("bf16", 2), ("bf16", 4), ("fp16", 2), ("fp16", 4), ("tf32", 4), ("fp32", 4))
SWEEP_THREADS = 128
PRODUCTS_PER_WARP = 64 * 64  # of a sweep's tile, 128 x 128 over four warps
BASELINE = "CUTLASS bf16 GEMM 128x128x32, 4 stages"


@dataclass(frozen=True)
class Sweep:
    """What a sweep instantiation multiplies and how it loads it."""

    operand: str
    w_bytes: int
    transposed: bool
    resident: bool
    vectors: bool = True
    norms: bool = True

    @property
    def element(self) -> int:
        return 2 if self.operand in ("bf16", "fp16") else 4

    @property
    def converts(self) -> bool:
        return self.w_bytes != self.element

    @property
    def multiply(self) -> str:
        return "FFMA" if self.operand == "fp32" else "HMMA"

    @property
    def name(self) -> str:
        w = "fp32 W" if self.converts else "W"
        layout = "columns" if self.transposed else "rows"
        keep = "resident" if self.resident else "streaming" if self.vectors else "any stride"
        return f"sweep {self.operand}, {w} by {layout}, {keep}" + ("" if self.norms else ", no norms")


@dataclass(frozen=True)
class Kernel:
    """`symbol`: a pattern that its mangled name matches; demangled names differ between demanglers."""

    name: str
    symbol: str
    threads: int
    sweep: Sweep | None = None
    shared: int = 0  # dynamic bytes, where no launch plan gives them

    @property
    def has_main_loop(self) -> bool:
        """Element-wise loads are loops inside the loop: their cycles depend on the sizes."""
        return self.name == BASELINE or (self.sweep is not None and self.sweep.vectors)

    @property
    def traces_accesses(self) -> bool:
        """Without the norms the accesses are those with them."""
        return self.has_main_loop and (self.sweep is None or self.sweep.norms)

    @property
    def multiply(self) -> str:
        return self.sweep.multiply if self.sweep else "HMMA"


@dataclass(frozen=True)
class Unit:
    name: str
    source: str
    kernels: tuple[Kernel, ...]
    cutlass: bool = False


def _flags(*values: bool) -> tuple[str, str]:
    """As template arguments, and mangled."""
    return ", ".join(str(v).lower() for v in values), "".join(f"Lb{int(v)}E" for v in values)


def _sweep(sweep: Sweep) -> tuple[Kernel, str]:
    """The kernel and how it is instantiated."""
    op = TYPES[sweep.operand]
    layout, mangled_layout = _flags(sweep.transposed)
    rest, mangled_rest = _flags(sweep.resident, sweep.vectors, sweep.norms)
    symbol = f"cos_lse_sweep.*{op}ELi{sweep.w_bytes}E{mangled_layout}EE{mangled_rest}"
    types = f"SweepTypes<TileTypes<{op}, {sweep.w_bytes}, {layout}>, {rest}>"
    return Kernel(sweep.name, symbol, SWEEP_THREADS, sweep), f"cos_lse_sweep<{types}>"


def _prepare(operand: str, w_bytes: int, transposed: bool, title: str) -> tuple[Kernel, str]:
    layout, mangled = _flags(transposed)
    symbol = f"prepare_rows.*{TYPES[operand]}ELi{w_bytes}E{mangled}"
    return Kernel(title, symbol, 128), f"prepare_rows<TileTypes<{TYPES[operand]}, {w_bytes}, {layout}>>"


def _forward_unit(operand: str, w_bytes: int, transposed: bool) -> Unit:
    sweeps = [Sweep(operand, w_bytes, transposed, resident=True), Sweep(operand, w_bytes, transposed, False)]
    if w_bytes == 2:
        sweeps += [Sweep(operand, w_bytes, transposed, resident, norms=False) for resident in (True, False)]
    sweeps.append(Sweep(operand, w_bytes, transposed, resident=False, vectors=False))
    layout = "columns" if transposed else "rows"
    w = "fp32 W" if sweeps[0].converts else "W"
    rows = [
        *map(_sweep, sweeps),
        _prepare(operand, w_bytes, transposed, f"row preparation {operand}, {w} by {layout}"),
    ]
    source = (
        '#include "cos_lse_sweep.cuh"\n#include "prepare_rows.cuh"\nusing namespace bbs::cuda;\n'
        + "".join(
            f"template __global__ void bbs::cuda::{instance}(const __grid_constant__ ForwardParams);\n"
            for _, instance in rows
        )
    )
    return Unit(f"forward_{operand}_w{8 * w_bytes}_{layout}", source, tuple(kernel for kernel, _ in rows))


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

UNITS = (
    Unit(
        "cutlass",
        _CUTLASS_SOURCE,
        (Kernel(BASELINE, "cutlass6Kernel", 128, shared=4 * 2 * 128 * 32 * 2),),
        cutlass=True,
    ),
    Unit(
        "forward_common",
        '#include "merge_margin.cuh"\n#include "merge_splits.cuh"\n#include "order_rows.cuh"\n',
        (
            Kernel("row order", "order_rows", 128),
            Kernel("merge of the splits", "merge_splits", 128),
            Kernel("merge with losses", "merge_margin", 128),
        ),
    ),
    *(_forward_unit(op, w_bytes, transposed) for op, w_bytes in COMBINATIONS for transposed in (False, True)),
)
