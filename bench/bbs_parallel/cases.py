"""What is measured: one step of two ranks, and the steps of one rank that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

DEPTH = 512
MARGIN, SCALE = 0.4, 64.0
BASKETS = 8  # of the case with mining, equally large


@dataclass(frozen=True)
class Layout:
    """name; ranks, and threads of each; rows (of all ranks) and classes as shares of the case's."""

    name: str
    ranks: int
    threads: int
    rows: float = 1.0
    classes: float = 1.0


# Two ranks have twice the rows or twice the classes of "half the rows" and "half the classes": weak scaling. Against
# "one rank" it is strong scaling. Two threads are the other way to use two cores.
TWO_RANKS = "two ranks"
LAYOUTS = (
    Layout("one rank", 1, 1),
    Layout("half the rows", 1, 1, rows=0.5),
    Layout("half the classes", 1, 1, classes=0.5),
    Layout("two threads", 1, 2),
    Layout(TWO_RANKS, 2, 1),
)


@dataclass(frozen=True)
class Size:
    """rows of all ranks and classes of all ranks, both divisible by 2 * BASKETS."""

    rows: int
    classes: int


FULL, QUICK = Size(128, 131_072), Size(32, 8_192)


@dataclass(frozen=True)
class Provider:
    """name; who computes ("ours" or "theirs"); baskets; sample_rate."""

    name: str
    who: str
    baskets: int = 1
    sample_rate: float = 1.0


PROVIDERS = (
    Provider("bbs-kernels", "ours"),
    Provider("PartialFC_V2's algorithm", "theirs"),
    Provider("bbs-kernels, sample_rate 0.1", "ours", sample_rate=0.1),
    Provider("PartialFC_V2's algorithm, sample_rate 0.1", "theirs", sample_rate=0.1),
    Provider(f"bbs-kernels, {BASKETS} baskets, TopK(64, 1)", "ours", baskets=BASKETS),
)
