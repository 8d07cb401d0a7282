"""The same head twice, in one process and spread over ranks, and what both make of the same batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import basket_softmax as bs
from cpu.problem import Problem, make

SIZES = (97, 0, 31, 1, 111)
RAGGED = (9, 0, 14, 3)  # rows of ranks 0 … 3


@dataclass(frozen=True)
class Case:
    """One configuration; `rows` of each rank."""

    mining: Any = bs.TopK(5, 1)  # noqa: RUF009  (frozen)
    shard: str = "basket"
    dtype: torch.dtype = torch.float32
    rows: tuple[int, ...] = RAGGED
    mates: bool = False
    sizes: tuple[int, ...] = SIZES
    autocast: bool = False
    options: dict = field(default_factory=dict)
    weighted: bool = False
    broken: bool = False
    copies: float = 0.1
    depth: int = 24

    def replace(self, **changes: Any) -> Case:
        return replace(self, **changes)


class Step:
    """value, dx [b, D], dw, mined_idx, mined_cos of one forward and backward pass."""

    def __init__(
        self, head: bs.BasketSoftmaxLoss, x: Tensor, labels: Tensor, weight: Tensor | None, case: Case
    ) -> None:
        self.head, x = head, x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.autocast):
            self.value = head(x, labels, sample_weight=weight)
        self.value.sum().backward()
        self.value = self.value.detach()
        self.dx, self.dw = x.grad, head.weight.grad
        self.mined_idx, self.mined_cos = head._last.mined_idx, head._last.mined_cos


class Pair:
    """A problem for `world` ranks, of which this process is `rank`."""

    def __init__(self, group: dist.ProcessGroup, case: Case, seed: int = 0) -> None:
        self.group, self.case = group, case
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)
        counts = case.rows[: self.world]
        self.problem: Problem = make(
            rows=sum(counts), depth=case.depth, sizes=case.sizes, dtype=case.dtype, seed=seed, mates=case.mates,
            copies=case.copies, spread=0.3, subcenters=case.options.get("subcenters", 1),
        )  # fmt: skip
        if case.broken:
            self.problem.x[1] = torch.nan
            self.problem.labels[1] = 3
        self.own = slice(sum(counts[: self.rank]), sum(counts[: self.rank + 1]))
        g = torch.Generator().manual_seed(seed)
        self.row_weight = torch.rand(sum(counts), generator=g) if case.weighted else None

    def head(self, parallel: bool, **more: Any) -> bs.BasketSoftmaxLoss:
        options = {
            "scale": 32.0,
            "mining": self.case.mining,
            "aliases": self.problem.aliases,
            **copy.deepcopy(self.case.options),
        }
        if self.problem.w.dtype == torch.float64:
            options["dtype"] = torch.float64
        if parallel:
            options |= {"process_group": self.group, "shard": self.case.shard}
        head = bs.BasketSoftmaxLoss(self.case.sizes, self.case.depth, **{**options, **more})
        head.load_full_weight(self.problem.w)
        return head

    def step_alone(self, head: bs.BasketSoftmaxLoss | None = None) -> Step:
        """One process with the whole batch."""
        head = self.head(False) if head is None else head
        return Step(head, self.problem.x, self.problem.labels, self.row_weight, self.case)

    def step_together(self, head: bs.BasketSoftmaxLoss | None = None) -> Step:
        """This rank's part of the step of all ranks; the embeddings' gradient without the factor for averaging."""
        head = self.head(True, grad_average=False) if head is None else head
        weight = None if self.row_weight is None else self.row_weight[self.own]
        return Step(head, self.problem.x[self.own], self.problem.labels[self.own], weight, self.case)

    def part(self, full: Tensor) -> Tensor:
        """The rows of [C*subcenters, …] that this rank owns."""
        head = self.head(True)
        return head.placement.own_part(full.unflatten(0, (-1, head.subcenters))).flatten(0, 1)


def error(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want|| over the numbers that are not NaN, which must be in the same places."""
    assert torch.equal(got.isnan(), want.isnan()), "NaN in other places"
    off, norm = (
        float((got - want).double().nan_to_num(0.0).norm()),
        float(want.double().nan_to_num(0.0).norm()),
    )
    return off / norm if norm > 0 else off
