"""The reference's gradients against finite differences in fp64: every rule, guard and margin."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import reference
from bbs_kernels.margins import ArcFace, CombinedMargin, CosFace, SphereFace
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK

OFFSETS = torch.tensor([0, 4, 4, 11, 14])  # basket 1 is empty
LABELS = torch.tensor([0, 3, 5, 13, 11])
EMA = torch.tensor([0.1, 0.2, 0.3, torch.inf], dtype=torch.float64)
RULES = [
    All(), Own(), Below(Absolute(0.3)), Below(Relative(0.1)), Below(Ema(0.5)), TopK(2, 1), TopK(0, 1),
    TopK(2, 1, Absolute(0.5)), TopK(2, 0, Relative(0.2)), TopK(9, 0, Ema(0.6)),
]  # fmt: skip


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    x, w = (torch.randn(n, 5, generator=g, dtype=torch.float64, requires_grad=True) for n in (5, 14))
    return x, w


def aliases() -> torch.Tensor:
    out = torch.full((14,), -1)
    out[[0, 6, 7, 12]] = 3
    return out


@pytest.mark.parametrize("known", [None, aliases()], ids=["plain", "aliases"])
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_core(mining, known) -> None:
    def core(x, w):
        return reference.cos_lse(
            x, w, LABELS, OFFSETS, scale=8.0, mining=mining, aliases=known, ema=EMA
        )[:2]  # fmt: skip

    assert torch.autograd.gradcheck(core, operands())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "margin", [ArcFace(), CosFace(), SphereFace(1.5), CombinedMargin(1.1, 0.3, 0.1)], ids=str
)
def test_loss(margin, reduction: str) -> None:
    labels = torch.tensor([0, 3, -1, 13, 11])
    weight = torch.tensor([1.0, 0.5, 7.0, 0.0, 2.0], dtype=torch.float64)

    def loss(x, w):
        return reference.basket_softmax(
            x, w, labels, OFFSETS, margin=margin, scale=8.0, mining=TopK(2, 1), reduction=reduction,
            sample_weight=weight,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, operands())


def test_second_derivative() -> None:
    x, w = operands()

    def loss(x, w):
        return reference.cos_lse(x, w, LABELS, OFFSETS, scale=4.0, mining=All())[0].sum()

    assert torch.autograd.gradgradcheck(loss, (x, w))
