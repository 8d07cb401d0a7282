"""What is compared and timed: shapes of a GPU, and the small ones of a rehearsal. The page takes its rows from here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

KINDS = ("bf16, fp32 W", "bf16", "fp16, fp32 W", "fp16", "tf32", "fp32")  # of tests/support/large_cases.py
STEP_KINDS = ("fp32", "tf32", "bf16, fp32 W", "bf16", "fp16")
TIMED_KINDS = ("bf16, fp32 W", "bf16", "tf32", "fp32")
X_BYTES = {kind: 4 if kind in ("tf32", "fp32") else 2 for kind in KINDS}
W_BYTES = {kind: 2 if kind in ("bf16", "fp16") else 4 for kind in KINDS}
PEAK_OF = {
    kind: kind if kind in ("tf32", "fp32") else "bf16" for kind in KINDS
}  # fp16 runs at the rate of bf16
PEAKS = ("bf16", "tf32", "fp32")


@dataclass(frozen=True)
class Case:
    """B rows of width D against C classes in K equal baskets: `Own` for one basket, `TopK` for several."""

    kind: str
    rows: int
    width: int
    classes: int
    baskets: int

    @property
    def name(self) -> str:
        return f"{self.kind}, B {self.rows}, D {self.width}, C {self.classes:,}, K {self.baskets}"


@dataclass(frozen=True)
class Sizes:
    """Everything that a report runs, by item. Workspaces are bytes."""

    steps: tuple[Case, ...]
    large: tuple[Case, ...]
    timed: tuple[Case, ...]
    widths: tuple[Case, ...]  # resident against streaming: the plan decides by the width
    workspaces: tuple[tuple[Case, int], ...]
    peers: tuple[tuple[str, str], ...]  # case of bbs_bench, dtype of the embeddings
    most_classes: tuple[Case, ...]
    graph: Case
    peer_suite: str
    peer_rounds: int
    copied_bytes: int
    l2_bytes: int
    l2_reads: int
    matmul: int
    repeats: int
    train_steps: int


def _large(rows: tuple[int, ...], widths: tuple[int, ...], odd_width: int, classes: int) -> tuple[Case, ...]:
    """Every kind at every size, and once at a width whose rows are no whole 16-byte chunks."""
    regular = tuple(
        Case(kind, b, width, classes, k) for kind, b, width, k in product(KINDS, rows, widths, (1, 4))
    )
    return regular + tuple(Case(kind, rows[0], odd_width, classes, 4) for kind in KINDS)


def _timed(rows: tuple[int, ...], width: int, classes: int) -> tuple[Case, ...]:
    return tuple(Case(kind, b, width, classes, k) for kind, k, b in product(TIMED_KINDS, (1, 4), rows))


MIB = 1 << 20

GPU = Sizes(
    steps=tuple(Case(kind, 150, 96, 1232, 4) for kind in STEP_KINDS),
    large=_large((300, 1024), (512, 1024), 509, 100_000),
    timed=_timed((256, 1024, 4096), 512, 1_000_000),
    widths=tuple(
        Case(kind, 1024, width, 1_000_000, 1)
        for kind in ("bf16, fp32 W", "bf16")
        for width in (256, 512, 640, 1024)
    ),
    workspaces=tuple(
        (Case("bf16, fp32 W", rows, 512, 1_000_000, 1), size * MIB)
        for rows in (1024, 4096)
        for size in (16, 64, 256)
    ),
    peers=(
        ("one basket, C 1 M", "bfloat16"),
        ("one basket, C 1 M, no margin", "bfloat16"),
        ("top-64 of 4 baskets, C 1 M", "bfloat16"),
    ),
    most_classes=tuple(Case("bf16, fp32 W", 1024, 512, 10_000_000, k) for k in (1, 4)),
    graph=Case("bf16, fp32 W", 256, 512, 100_000, 4),
    peer_suite="gpu",
    peer_rounds=5,
    copied_bytes=1 << 31,
    l2_bytes=24 * MIB,
    l2_reads=64,
    matmul=8192,
    repeats=5,
    train_steps=30,
)  # fmt: skip

REHEARSAL = Sizes(
    steps=tuple(Case(kind, 17, 24, 120, 4) for kind in STEP_KINDS),
    large=_large((17,), (24, 32), 13, 240),
    timed=_timed((16, 32), 24, 400),
    widths=tuple(Case("bf16, fp32 W", 16, width, 400, 1) for width in (16, 32)),
    workspaces=((Case("bf16, fp32 W", 16, 24, 400, 1), 16 * MIB),),
    peers=(("one basket, C 4 k", "float32"),),  # what the CPU times
    most_classes=tuple(Case("bf16, fp32 W", 16, 16, 4000, k) for k in (1, 4)),
    graph=Case("bf16, fp32 W", 16, 24, 400, 4),
    peer_suite="quick",
    peer_rounds=2,
    copied_bytes=1 << 16,
    l2_bytes=1 << 14,
    l2_reads=4,
    matmul=64,
    repeats=2,
    train_steps=30,
)

BY_DEVICE = {"cuda": GPU, "cpu": REHEARSAL}
