"""Flops and bytes, computed from launch plans: what the blocks ask for, and the least that any algorithm must move.
What blocks ask for together and L2 answers once does not reach DRAM; that is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .plan import DenseLaunch, Launch
from .work import Dense, Sweep

TILE = 128
OUTPUT_BYTES = 8  # per row: lse and target cosine
PAIR_BYTES = 8  # per row and split: written by the sweep, read by the merge
PARTIAL_BYTES = 4  # an element of dx before finish_rows


@dataclass(frozen=True)
class Traffic:
    """Bytes by what they are of. `minimum`: every operand and every output once."""

    flops: int
    minimum: int
    asked: dict[str, int]

    @property
    def requested(self) -> int:
        return sum(self.asked.values())

    @property
    def ratio(self) -> float:
        return self.requested / self.minimum


def sweep_traffic(sweep: Sweep, launch: Launch) -> Traffic:
    p = launch.problem
    w = p.classes * p.dim * sweep.w_bytes
    x = p.rows * p.dim * sweep.element
    labels, outputs = p.rows * 8, p.rows * OUTPUT_BYTES
    passes_of_x = launch.splits if sweep.resident else launch.tiles
    return Traffic(
        flops=2 * p.rows * p.classes * p.dim,
        minimum=w + x + labels + outputs,
        asked={
            "w": w * launch.row_blocks,
            "x": x * passes_of_x,
            "rest": labels + outputs + 2 * PAIR_BYTES * p.rows * launch.splits,
        },
    )


def product_traffic(product: Dense, launch: DenseLaunch) -> Traffic:
    """Of all runs. gradient_rows reads p and w-hat and adds to partial sums of dx, which every run but the first reads
    too; gradient_classes reads p, x-hat and w, for the Jacobian, and writes dw."""
    p = launch.problem
    columns, tiles = -(-p.dim // TILE), -(-p.classes // TILE)
    coefficients = p.rows * p.classes * product.element
    if product.kernel == "gradient_rows":
        other, out = p.classes * p.dim * product.element, p.rows * p.dim * PARTIAL_BYTES
        passes, moved = launch.row_blocks, out * launch.splits * (2 * launch.runs - 1)
    else:
        other, out = p.rows * p.dim * product.element, 2 * p.classes * p.dim * product.w_bytes
        passes, moved = tiles, out
    return Traffic(
        flops=2 * p.rows * p.classes * p.dim,
        minimum=coefficients + other + out,
        asked={"p": coefficients * columns, "other": other * passes, "out": moved},
    )
