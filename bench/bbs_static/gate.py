"""The bounds that the kernels must hold, and for a bound that is missed the reason as far as the code shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .kernels import BASELINE, Kernel
from .results import Row
from .work import Sweep, Work

# Issue cycles per HMMA of the main loop, as a multiple of CUTLASS's for the same tile and arch.
WITHOUT_NORMS, WITH_NORMS, CONVERTED = 1.1, 1.3, 1.5


@dataclass(frozen=True)
class Finding:
    kernel: str
    arch: str
    what: str
    value: str
    bound: str
    holds: bool
    reason: str = ""


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
    def finding(what: str, value: str, bound: str, holds: bool, reason: str = "") -> Finding:
        return Finding(row.kernel, row.arch, what, value, bound, holds, "" if holds else reason)

    yield finding(
        "spilled bytes", str(row.spilled_bytes), "0", row.spilled_bytes == 0, f"{row.registers} registers"
    )
    if not kernel.work or not kernel.has_main_loop:
        return
    yield finding("main loop found", str(row.cycles_per_iteration is not None), "True", bool(row.multiplies))
    if row.bank_conflicts is not None:
        yield finding("bank conflicts, traced", str(row.bank_conflicts), "0", row.bank_conflicts == 0)
        yield finding("uncoalesced accesses, traced", str(row.uncoalesced), "0", row.uncoalesced == 0)
    if row.executed_wavefronts is not None:
        yield finding(
            "wavefronts, executed", f"{row.executed_wavefronts:g}", f"{row.ideal_wavefronts:g}",
            row.executed_wavefronts == row.ideal_wavefronts,
        )  # fmt: skip
        yield finding(
            "sectors of operand loads, executed", f"{row.executed_sectors:g}", f"{row.ideal_sectors:g}",
            row.executed_sectors == row.ideal_sectors, sector_reason(row, kernel.work),
        )  # fmt: skip
    bound = ratio_bound(kernel.work)
    if bound is not None and row.ratio_to_cutlass is not None:
        yield finding(
            "issue cycles per HMMA / CUTLASS's", f"{row.ratio_to_cutlass:.3f}", f"{bound:g}",
            row.ratio_to_cutlass <= bound, mix_against(row, baseline),
        )  # fmt: skip


def sector_reason(row: Row, work: Work) -> str:
    """Why a sweep of sub-centres over the columns of a 16-bit W fetches more; its tiles are cut by tile_step in
    tile_shape.h."""
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
