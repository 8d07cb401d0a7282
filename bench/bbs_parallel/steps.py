"""The step of a provider under a layout, as one rank sees it: forward and backward, gradients of rows and centres."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

import basket_softmax as bs

from .cases import DEPTH, MARGIN, SCALE, Layout, Provider, Size
from .partial_fc import partial_fc_loss

NOISE = 1.8  # of a row around its centre, relative to the centre's length: a loss of about 10


class Step:
    """loss: from embeddings [b, D] and labels [b] to a scalar; weight: this rank's centres."""

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], weight: nn.Parameter, x: Tensor, labels: Tensor
    ) -> None:
        self.loss, self.weight, self.labels = loss, weight, labels
        self.x = x.requires_grad_()

    def clear(self) -> None:
        """Give the gradients' memory back."""
        self.x.grad = self.weight.grad = None

    def run(self) -> float:
        """The loss."""
        value = self.loss(self.x, self.labels)
        value.backward()
        return float(value.detach())


def centres(size: Size) -> Tensor:
    """[C, D] of the whole case; all steps of a process share them."""
    return torch.randn(size.classes, DEPTH, generator=torch.Generator().manual_seed(0))


def make_step(
    provider: Provider, layout: Layout, size: Size, group: dist.ProcessGroup, shared: Tensor
) -> Step:
    """`group` has `layout.ranks` ranks, of which this is one; `shared`: `centres(size)`. The same data for every
    provider."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    rows, classes = int(size.rows * layout.rows), int(size.classes * layout.classes)
    w = shared[:classes]
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (rows,), generator=g)
    x = w[labels] + NOISE * torch.randn(rows, DEPTH, generator=g)
    own = slice(rows * rank // world, rows * (rank + 1) // world)
    if provider.who == "ours":
        head = bs.BasketSoftmaxLoss(
            [classes // provider.baskets] * provider.baskets, DEPTH, bs.CosFace(MARGIN), SCALE,
            bs.Own() if provider.baskets == 1 else bs.TopK(64, 1), sample_rate=provider.sample_rate,
            process_group=None if world == 1 else group,
        )  # fmt: skip
        if world == 1:
            head.weight.data = w
        else:
            head.load_full_weight(w)
        return Step(head, head.weight, x[own].clone(), labels[own])
    weight = nn.Parameter(w[classes * rank // world : classes * (rank + 1) // world])
    loss = partial(
        partial_fc_loss, first=classes * rank // world, margin=MARGIN, scale=SCALE,
        sample_rate=provider.sample_rate, group=group,
    )  # fmt: skip
    return Step(lambda x, labels: loss(x, weight, labels), weight, x[own].clone(), labels[own])
