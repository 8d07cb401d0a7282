"""Time and memory of a class-parallel step against the number of ranks, computed from docs/parallel.md's formulas.

Nothing here is measured: rates and latencies are assumptions, written into the table. Prints the table of the page.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

DEPTH = 512
FLOPS = 300e12  # a rank's bf16 products in this kernel: a third of an H100's dense peak
BANDWIDTH = 40e9  # bytes a second into a rank, all ranks talking: one 400 Gbit/s link each, four fifths used
LATENCY = 15e-6  # of one collective, times log2(ranks)
COLLECTIVES = (
    7  # forward: counts, labels, embeddings, candidates, partials, result; backward: the reduce-scatter
)


class Step(NamedTuple):
    """ranks, rows (per rank), classes (of all ranks), baskets (equally large), listed (k + skip)."""

    ranks: int
    rows: int
    classes: float
    baskets: int = 8
    listed: int = 65

    @property
    def batch(self) -> int:
        return self.ranks * self.rows

    def bytes_into_a_rank(self) -> float:
        """What a rank receives in a step, bf16 embeddings, reduced dX in fp32."""
        row = 6 * DEPTH + 8 * self.baskets * self.listed + 24 * self.baskets + 40
        return self.batch * row * (self.ranks - 1) / self.ranks

    def products(self) -> float:
        """Seconds of a rank's matrix products: forward over all its classes, backward inside the rows' own baskets."""
        pairs = self.batch * self.classes / self.ranks
        return (2 * pairs + 6 * pairs / self.baskets) * DEPTH / FLOPS

    def messages(self) -> float:
        """Seconds of the collectives, nothing overlapped."""
        return self.bytes_into_a_rank() / BANDWIDTH + COLLECTIVES * LATENCY * log2(self.ranks)

    def memory(self) -> float:
        """Bytes of centres, gradient and momentum in fp32; gathered embeddings and their partial gradient; candidates
        as indices, cosines, and keys that leave and arrive."""
        shard = 12 * self.classes / self.ranks * DEPTH
        return shard + self.batch * (6 * DEPTH + 28 * self.baskets * self.listed)


def table() -> str:
    """Markdown, one row per configuration."""
    lines = [
        "| ranks | classes | batch | products, ms | messages, ms | received per rank, MB | memory per rank, GB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for classes in (1e6, 1e7, 1e8):
        for ranks in (8, 64, 256, 1024):
            step = Step(ranks, 128, classes)
            lines.append(
                f"| {ranks:,} | {classes / 1e6:.0f} M | {step.batch:,} | {1e3 * step.products():.1f} | "
                f"{1e3 * step.messages():.1f} | {step.bytes_into_a_rank() / 1e6:.0f} | {step.memory() / 1e9:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
