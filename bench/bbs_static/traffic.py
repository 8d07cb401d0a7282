"""Flops and bytes of a sweep, computed from its launch plan: what the blocks ask for, and the least that any
algorithm must move. What blocks ask for together and L2 answers once does not reach DRAM; that is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .kernels import Sweep
from .plan import Launch, Problem

TILE = 128
OUTPUT_BYTES = 8  # per row: lse and target cosine
PAIR_BYTES = 8  # per row and split: written by the sweep, read by the merge


@dataclass(frozen=True)
class Traffic:
    flops: int
    minimum: int  # x, w, labels and outputs once
    requested_w: int
    requested_x: int
    requested_rest: int

    @property
    def requested(self) -> int:
        return self.requested_w + self.requested_x + self.requested_rest

    @property
    def ratio(self) -> float:
        return self.requested / self.minimum


def traffic(sweep: Sweep, launch: Launch) -> Traffic:
    p: Problem = launch.problem
    w = p.classes * p.dim * sweep.w_bytes
    x = p.rows * p.dim * sweep.element
    labels, outputs = p.rows * 8, p.rows * OUTPUT_BYTES
    passes_of_x = launch.splits if sweep.resident else launch.tiles
    return Traffic(
        flops=2 * p.rows * p.classes * p.dim,
        minimum=w + x + labels + outputs,
        requested_w=w * launch.row_blocks,
        requested_x=x * passes_of_x,
        requested_rest=labels + outputs + 2 * PAIR_BYTES * p.rows * launch.splits,
    )
