"""What the project aimed at on the CPU beside what was measured, and how far the products alone would go.

    python tools/bench_aims.py docs/results/bench

Measured: results.json of `bbs bench --suite main`. Computed: floating-point operations from the shapes of the cases,
and the time that they would take at the multiply-add rate measured beside each step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from bbs_bench.cases import MAIN, Case, find_case
from bbs_kernels.functional import DEFAULT_STASH_BYTES
from bbs_kernels.rules import Own, TopK

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_table import OURS, read, unbroken

PLAIN, MINED, SMALL = (case.name for case in MAIN[:3])
WHOLE = "bbs-kernels, whole stash"
EAGER, COMPILED = "eager PyTorch", "torch.compile"
MIB = 1 << 20


class Aim(NamedTuple):
    """One line of the table. reached: at least (or, `below`, at most) what was aimed at."""

    what: str
    least: str
    better: str
    measured: str
    reached: bool


class Measured:
    """Rows of results.json by case, threads, allocator and provider."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.rows = {
            (row["case"], row["threads"], row["allocator"], row["provider"]): row
            for row in document["timings"]
        }

    def row(self, case: str, allocator: str, provider: str = OURS, threads: int = 1) -> dict[str, Any]:
        return self.rows[case, threads, allocator, provider]

    def whole_stash(self, case: str, allocator: str, provider: str) -> float:
        """Their time over ours with every cosine kept: the quotient of two median ratios."""
        whole = self.row(case, allocator, WHOLE)["ratio"]
        return self.row(case, allocator, provider)["ratio"] / whole

    def speedups(self) -> list[float]:
        """Time on one thread over time on two, of every case and allocator."""
        return [
            row["median"] / self.row(case, allocator, threads=2)["median"]
            for (case, threads, allocator, provider), row in self.rows.items()
            if provider == OURS and threads == 1
        ]


def aims(document: dict[str, Any]) -> list[Aim]:
    """Every aim of the CPU backend, in the order of the page."""
    found = Measured(document)
    shares = [found.row(PLAIN, allocator)["peak_share"] for allocator in ("default", "tuned")]
    rows = [
        Aim("forward on one thread, share of the measured peak, C 86 k", "80%", "90%", _range(shares, "{:.0%}"),
            min(shares) >= 0.8),
    ]  # fmt: skip
    for case, provider, allocator, least, better in (
        (PLAIN, EAGER, "tuned", 1.3, 1.6),
        (PLAIN, COMPILED, "tuned", 1.3, 1.6),
        (PLAIN, EAGER, "default", 2.8, 4.0),
        (PLAIN, COMPILED, "default", 1.5, 2.0),
        (MINED, EAGER, "tuned", 2.9, 4.0),
        (MINED, EAGER, "default", 6.5, 9.0),
        (SMALL, EAGER, "tuned", 2.0, 3.0),
    ):
        ratio = found.row(case, allocator, provider)["ratio"]
        measured = f"{ratio:.2f} ×"
        if case == PLAIN:
            measured += f"; {found.whole_stash(case, allocator, provider):.2f} × with everything stashed"
        rows.append(
            Aim(f"{case}: {provider}, {allocator} allocator", f"{least} ×", f"{better} ×", measured, ratio >= least)
        )  # fmt: skip
    speedups = found.speedups()
    rows.append(
        Aim("two threads against one", "1.7 ×", "1.9 ×", _range(speedups, "{:.2f} ×"), min(speedups) >= 1.7)
    )
    for case in (PLAIN, MINED):
        allowed, used = _memory_allowed(find_case("main", case)), found.row(case, "default")["extra_mib"]
        rows.append(
            Aim(f"{case}: memory beyond inputs and gradients", f"at most {allowed:.0f} MiB", "", f"{used:.1f} MiB",
                used <= allowed)
        )  # fmt: skip
    return rows


def aims_table(document: dict[str, Any]) -> str:
    lines = ["| aim | at least | better | measured | reached |", "| :-- | --: | --: | --: | :-: |"]
    lines += [
        f"| {unbroken(a.what)} | {a.least} | {a.better} | {a.measured} | {'yes' if a.reached else '**no**'} |"
        for a in aims(document)
    ]
    return "\n".join(lines)


class Products(NamedTuple):
    """GFLOP of the matrix products that a step owes."""

    forward: float
    backward: float


def products(case: Case, stash_bytes: int = DEFAULT_STASH_BYTES) -> Products:
    """Cosines of all that is read; backward: both gradients over the own baskets, and cosines not stashed.

    Mined pairs are a sparse part, not counted. `Own` and `TopK` only.
    """
    assert isinstance(case.mining, (Own, TopK))
    own_classes = sum(size * size for size in case.sizes) / case.classes  # a row's own basket, on average
    own = 2e-9 * case.batch * own_classes * case.width
    stashed = min(1.0, stash_bytes / (4 * case.batch * own_classes))
    return Products(case.forward_gflop(), own * (2 + 1 - stashed))


def breakdown_table(document: dict[str, Any]) -> str:
    """One thread: what the products alone take at peak (computed) beside the step (measured)."""
    found = Measured(document)
    lines = [
        "| case | allocator | forward: at peak, ms | measured | backward: at peak, ms | measured | step, share of peak "
        "| eager over the products at peak | torch.compile |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for case in (PLAIN, MINED, SMALL):
        for allocator in ("default", "tuned"):
            ours = found.row(case, allocator)
            peak = ours["forward_gflops"] / ours["peak_share"]
            forward, backward = (1e3 * gflop / peak for gflop in products(find_case("main", case)))
            step = 1e3 * ours["median"]
            bounds = [
                f"{found.rows[case, 1, allocator, p]['ratio'] * step / (forward + backward):.2f} ×"
                if (case, 1, allocator, p) in found.rows else "–"
                for p in (EAGER, COMPILED)
            ]  # fmt: skip
            cells = [
                unbroken(case), allocator, f"{forward:.0f}", f"{1e3 * ours['forward']:.0f}", f"{backward:.0f}",
                f"{step - 1e3 * ours['forward']:.0f}", f"{(forward + backward) / step:.0%}", *bounds,
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _memory_allowed(case: Case) -> float:
    """MiB: 16, the stash, and 16 bytes for each entry of the mined list."""
    listed = case.mining.k * len(case.sizes) if isinstance(case.mining, TopK) else 0
    return 16 + (DEFAULT_STASH_BYTES + 16 * case.batch * listed) / MIB


def _range(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} – {high}"


if __name__ == "__main__":
    results = read(Path(sys.argv[1]))
    print(aims_table(results), breakdown_table(results), sep="\n\n")
