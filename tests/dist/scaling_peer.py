"""Body: the benchmark's peer, Partial FC in plain torch, beside the definition in fp64."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F

from .heads import error

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "bench")
)  # runs from the checkout, is not installed

from bbs_parallel import partial_fc

CLASSES, WIDTH, ROWS = 96, 24, 6  # ROWS per rank


def against_the_definition(group: dist.ProcessGroup, sample_rate: float) -> None:
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    g = torch.Generator().manual_seed(0)
    w = torch.randn(CLASSES, WIDTH, generator=g)
    labels = torch.randint(CLASSES, (ROWS * world,), generator=g)
    x = w[labels] + torch.randn(ROWS * world, WIDTH, generator=g)
    own, part = slice(ROWS * rank, ROWS * (rank + 1)), CLASSES // world
    first = part * rank
    drawn, original = [], partial_fc.sample

    def remember(*arguments: object) -> torch.Tensor:
        drawn.append(original(*arguments))
        return drawn[-1]

    partial_fc.sample = remember
    mine, rows = w[first : first + part].clone().requires_grad_(), x[own].clone().requires_grad_()
    torch.manual_seed(rank)
    value = partial_fc.partial_fc_loss(
        rows, mine, labels[own], first=first, margin=0.4, scale=32.0, sample_rate=sample_rate, group=group
    )
    value.backward()
    partial_fc.sample = original

    chosen = drawn[0] if sample_rate < 1.0 else torch.arange(part)
    assert len(chosen) == int(sample_rate * part)
    every: list = [None] * world
    dist.all_gather_object(every, first + chosen, group=group)
    classes = torch.cat(every)
    x, w = x.double().requires_grad_(), w.double().requires_grad_()
    hot = classes == labels[:, None]
    assert hot.any(1).all(), "a positive was not sampled"
    logits = 32.0 * (F.normalize(x) @ F.normalize(w[classes]).t() - 0.4 * hot)
    want = F.cross_entropy(logits, hot.int().argmax(1))
    want.backward()
    assert abs(float(value.detach()) - float(want.detach())) <= 1e-6 * float(want.detach())
    assert error(rows.grad, world * x.grad[own]) <= 6e-6
    assert error(mine.grad, w.grad[first : first + part]) <= 6e-6


def more_positives_than_the_rate(group: dist.ProcessGroup) -> None:
    targets = torch.tensor([3, -1, 7, 3, 0])
    assert partial_fc.sample(targets, 20, 0.1).tolist() == [0, 3, 7]
