"""The bounds that the kernels must hold, and for a bound that is missed the reason as far as the code shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .results import Row
from .units import BASELINE, Kernel
from .work import Sweep, Work

# Issue cycles per HMMA of the main loop, as a multiple of CUTLASS's for the same tile and arch.
WITHOUT_NORMS, WITH_NORMS, CONVERTED = 1.1, 1.3, 1.5
# Sectors beyond the fewest that a sweep of sub-centres may fetch, see sector_reason.
SECTORS_BY_DESIGN = 1.03


@dataclass(frozen=True)
class Finding:
    kernel: str
    arch: str
    what: str
    value: str
    bound: str
    holds: bool
    reason: str = ""
    by_design: bool = False  # missed, and to hold it would cost more


def ratio_bound(work: Work) -> float | None:
    """tf32 and fp32 have none: CUTLASS's kernel is a 16-bit one."""
    if work.element != 2:
        return None
    if not isinstance(work, Sweep):  # a product of the backward reads what was rounded before
        return WITHOUT_NORMS
    return CONVERTED if work.converts else WITH_NORMS if work.norms else WITHOUT_NORMS


def check(rows: list[Row], kernels: dict[str, Kernel]) -> list[Finding]:
    baseline = {row.arch: row for row in rows if row.kernel == BASELINE}
    return [
        finding
        for row in rows
        if row.kernel != BASELINE
        for finding in _findings(row, kernels[row.kernel], baseline.get(row.arch))
    ]


def _findings(row: Row, kernel: Kernel, baseline: Row | None) -> Iterator[Finding]:
    def finding(
        what: str, value: str, bound: str, holds: bool, reason: str = "", by_design: bool = False
    ) -> Finding:
        return Finding(
            row.kernel, row.arch, what, value, bound, holds, "" if holds else reason, by_design and not holds
        )

    yield finding(
        "spilled bytes", str(row.spilled_bytes), "0", row.spilled_bytes == 0, f"{row.registers} registers"
    )
    if not kernel.work or not kernel.has_main_loop:
        return
    yield finding("main loop found", str(row.cycles_per_iteration is not None), "True", bool(row.multiplies))
    if row.bank_conflicts is not None:
        yield finding("bank conflicts, traced", str(row.bank_conflicts), "0", row.bank_conflicts == 0)
        yield finding("uncoalesced accesses, traced", str(row.uncoalesced), "0", row.uncoalesced == 0)
    if (
        row.executed_wavefronts is not None
        and row.executed_sectors is not None
        and row.ideal_sectors is not None
    ):
        yield finding(
            "wavefronts, executed", f"{row.executed_wavefronts:g}", f"{row.ideal_wavefronts:g}",
            row.executed_wavefronts == row.ideal_wavefronts,
        )  # fmt: skip
        reason = sector_reason(row, kernel.work)
        yield finding(
            "sectors of operand loads, executed", f"{row.executed_sectors:g}", f"{row.ideal_sectors:g}",
            row.executed_sectors == row.ideal_sectors, reason,
            bool(reason) and row.executed_sectors <= row.ideal_sectors * SECTORS_BY_DESIGN,
        )  # fmt: skip
    bound = ratio_bound(kernel.work)
    if bound is not None and row.ratio_to_cutlass is not None:
        yield finding(
            "issue cycles per HMMA / CUTLASS's", f"{row.ratio_to_cutlass:.3f}", f"{bound:g}",
            row.ratio_to_cutlass <= bound, mix_against(row, baseline),
        )  # fmt: skip


def sector_reason(row: Row, work: Work) -> str:
    if not (isinstance(work, Sweep) and work.several and work.transposed and work.w_bytes == 2):
        return ""
    return (
        "tiles of whole classes, 120 of 128 columns at three centres each, begin at 16 bytes, every second one within "
        "a 32-byte sector; tiles that begin at sectors would hold 111 columns and cost more than they save; per "
        f"iteration {mix_of(row)}"
    )


def mix_against(row: Row, baseline: Row | None) -> str:
    """The instructions of an iteration that the baseline has fewer of, the most frequent first."""
    theirs = baseline.mix if baseline else {}
    extra = {op: n - theirs.get(op, 0) for op, n in row.mix.items() if n > theirs.get(op, 0)}
    words = [f"{n} {op}" for op, n in sorted(extra.items(), key=lambda item: -item[1])[:6]]
    return f"per iteration {mix_of(row)}; beyond CUTLASS's: {', '.join(words)}"


def mix_of(row: Row) -> str:
    return ", ".join(f"{n} {op}" for op, n in list(row.mix.items())[:8])
