"""The table of kernels that are reported: every instantiation that the package can launch, as `_core.cuda_kernels()`
lists them, and for reports only CUTLASS's GEMM and sweeps without the norms (sources/)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bbs_kernels import _core  # type: ignore[attr-defined]  # compiled

from .work import DENSE, Dense, Operands, Sweep, Work

BASELINE = "CUTLASS bf16 GEMM 128x128x32, 4 stages"
NO_NORMS = ", no norms"
# Names of rows where the kernel's own would say less.
TITLES = {
    "order_rows": "row order",
    "merge_splits": "merge of the splits",
    "merge_margin": "merge with losses",
    "prepare_rows": "row preparation",
}
# The order of the report: the forward, then the backward; in both what has no type, then by types and layout of w.
FORWARD = ("order_rows", "merge_splits", "merge_margin", "cos_lse_sweep", "prepare_rows")
BACKWARD = (
    "row_scale", "count_digits", "scan_digits", "scatter_digits", "gather_pairs", "find_baskets", "gradient_rows",
    "gradient_classes", "coefficients", "normalize_classes", "backward_pairs", "finish_rows",
)  # fmt: skip
OPERANDS = ("bf16", "fp16", "tf32", "fp32")


@dataclass(frozen=True)
class Kernel:
    """A row of the report. `symbol`: its name in the image of its `family`; `threads`: of a block."""

    name: str
    symbol: str
    family: str
    threads: int
    work: Work | None = None
    shared: int = 0  # dynamic bytes, where no launch plan gives them

    @property
    def has_main_loop(self) -> bool:
        return self.name == BASELINE or (self.work is not None and self.work.has_main_loop)

    def is_traced(self, names: tuple[str, ...]) -> bool:
        """Whether its accesses are followed where kernels with `names` are. A sweep without the norms has those of the
        one with them."""
        return (
            self.has_main_loop
            and not self.name.endswith(NO_NORMS)
            and any(name in self.name for name in names)
        )

    @property
    def multiply(self) -> str:
        return self.work.multiply if self.work else "HMMA"


def kernel_of(entry: dict[str, Any]) -> Kernel:
    """The row of an entry of `_core.cuda_kernels()`."""
    kernel = entry["kernel"]
    name, work = TITLES.get(kernel, kernel), work_of(entry)
    if work is not None:
        name = work.name
    elif "w_bytes" in entry:
        name += f" {operands_of(entry).title}"
        if "lane_values" in entry:
            name += f", {entry['lane_values']} values a lane"
    elif "operand" in entry:
        name += f" {entry['operand']}"
    return Kernel(name, entry["symbol"], entry["family"], entry["threads"], work)


def operands_of(entry: dict[str, Any]) -> Operands:
    """What the product of an operand's own type has neither: gradient_rows reads what others wrote."""
    element = 2 if entry["operand"] in ("bf16", "fp16") else 4
    return Operands(entry["operand"], entry.get("w_bytes", element), entry.get("w_transposed", False))


def work_of(entry: dict[str, Any]) -> Work | None:
    kernel = entry["kernel"]
    if kernel == "cos_lse_sweep":
        of = operands_of(entry)
        return Sweep(
            of.operand,
            of.w_bytes,
            of.transposed,
            entry["resident"],
            entry["vectors"],
            several=entry["subcenters"],
        )
    if kernel in DENSE:
        of = operands_of(entry)
        return Dense(
            of.operand,
            of.w_bytes,
            of.transposed,
            kernel,
            entry.get("vectors", True),
            entry.get("subcenters", False),
        )
    return None


def without_norms(kernel: Kernel) -> Kernel | None:
    """The form of a sweep that only a report compiles; for a 16-bit W with 16-byte loads, one centre to a class."""
    sweep = kernel.work
    if not isinstance(sweep, Sweep) or sweep.w_bytes != 2 or sweep.several or not sweep.vectors:
        return None
    bare = replace(sweep, norms=False)
    layout, keep = (
        ("columns" if sweep.transposed else "rows"),
        ("resident" if sweep.resident else "streaming"),
    )
    family = f"no_norms_{sweep.operand}"
    return Kernel(bare.name, f"{family}_{layout}_{keep}", family, kernel.threads, bare)


def _place(entry: dict[str, Any]) -> tuple:
    kernel = entry["kernel"]
    launched = FORWARD if kernel in FORWARD else BACKWARD
    types = (OPERANDS.index(entry["operand"]), operands_of(entry).w_bytes) if "operand" in entry else (-1,)
    return (
        launched is BACKWARD, types, entry.get("w_transposed", False), launched.index(kernel),
        entry.get("subcenters", False), not entry.get("vectors", True), not entry.get("resident", True),
        entry.get("lane_values", 0),
    )  # fmt: skip


def _table() -> list[Kernel]:
    rows = [Kernel(BASELINE, "cutlass_gemm_bf16", "cutlass_gemm", 128, shared=4 * 2 * 128 * 32 * 2)]
    for kernel in map(kernel_of, sorted(_core.cuda_kernels(), key=_place)):
        rows += [kernel, *([bare] if (bare := without_norms(kernel)) else [])]
    return rows


KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _table()}
