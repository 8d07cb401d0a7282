"""A small fp64 head and a batch for it, the same in every call: four baskets, one empty and one of a single class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.rules import Rule

BASKETS = {"a": 17, "empty": 0, "b": 31, "c": 1}
CLASSES = 49
WIDTH = 13
ROWS = 23


def centres() -> Tensor:
    """[CLASSES, WIDTH], some of them near copies of a centre in another basket."""
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    w[20:24] = w[2:6] + 0.1 * torch.randn(4, WIDTH, generator=generator, dtype=torch.float64)
    return w


def head(mining: Rule | None = None, **options: Any) -> bs.BasketSoftmaxLoss:
    loss = bs.BasketSoftmaxLoss(BASKETS, WIDTH, mining=mining, dtype=torch.float64, **options)
    loss.load_full_weight(centres())
    return loss


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """x [ROWS, WIDTH] near its centres, requires grad; labels of every basket that has classes, every 7th -1."""
    generator = torch.Generator().manual_seed(100 + seed)
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    labels[[2, 5, 9]] = torch.tensor([4, 30, 48])
    labels[::7] = -1
    noise = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    return (centres()[labels] + noise).requires_grad_(), labels
