"""Sub-centres in the reference: the largest cosine of a class counts, and its centre alone gets the gradient."""

from __future__ import annotations

import math

import pytest
import torch

from bbs_kernels import reference
from bbs_kernels.margins import ArcFace
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK

OFFSETS = torch.tensor([0, 3, 3, 7])  # basket 1 is empty
LABELS = torch.tensor([0, 2, 5, 3])
EMA = torch.tensor([0.1, 0.2, torch.inf], dtype=torch.float64)


def operands(subcenters: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    x, w = (torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (4, 7 * subcenters))
    return x.requires_grad_(), w.requires_grad_()


def test_by_hand() -> None:
    """Cosines 0.6 and 0.8 of the target, 0 and 0 of the other class: 0.8 and exp(lse) = 1."""
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    w = torch.tensor(
        [[3.0, 4.0], [8.0, 6.0], [0.0, 2.0], [0.0, -1.0]], dtype=torch.float64, requires_grad=True
    )
    lse, cos_t, _, _ = reference.cos_lse(
        x, w, torch.tensor([0]), torch.tensor([0, 2]), scale=2.0, mining=Own(), subcenters=2
    )
    assert cos_t.item() == pytest.approx(0.8, abs=1e-15)
    assert lse.item() == pytest.approx(0.0, abs=1e-15)
    (lse + cos_t).sum().backward()
    # 0.8 is of row 1: (x_hat - 0.8 w_hat) / 10. Rows 2 and 3 tie at 0, so row 2 has it all: s x_hat / 2.
    want = torch.tensor([[0.0, 0.0], [0.036, -0.048], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(w.grad, want, rtol=0.0, atol=1e-15)


@pytest.mark.parametrize(
    "mining",
    [All(), Own(), Below(Absolute(0.3)), Below(Ema(0.5)), TopK(2, 1), TopK(2, 0, Relative(0.2))],
    ids=str,
)
@pytest.mark.parametrize("subcenters", [2, 3])
def test_gradients_are_the_differences(mining, subcenters: int) -> None:
    def loss(x, w):
        return reference.basket_softmax(
            x, w, LABELS, OFFSETS, margin=ArcFace(0.3), scale=8.0, mining=mining, ema=EMA, subcenters=subcenters,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, operands(subcenters))


@pytest.mark.parametrize("mining", [All(), TopK(2, 1, Relative(0.1))], ids=str)
def test_copies_of_a_centre_change_nothing(mining) -> None:
    """A class that has its one centre r times is a class with one centre."""
    x, w = operands(1)
    want = reference.cos_lse(x, w, LABELS, OFFSETS, scale=8.0, mining=mining)
    many = w.detach().repeat_interleave(4, dim=0).requires_grad_()
    got = reference.cos_lse(x, many, LABELS, OFFSETS, scale=8.0, mining=mining, subcenters=4)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=1e-15)
    dx, dw = torch.autograd.grad(want[0].sum() + want[1].sum(), (x, w))
    got_dx, got_dw = torch.autograd.grad(got[0].sum() + got[1].sum(), (x, many))
    torch.testing.assert_close(got_dx, dx, rtol=0.0, atol=1e-14)
    torch.testing.assert_close(got_dw[::4], dw, rtol=0.0, atol=1e-14)
    assert (got_dw.view(-1, 4, w.shape[1])[:, 1:] == 0).all()


def test_running_mean_is_of_the_nearest_centre() -> None:
    x, w = operands(3)
    ema = torch.full((3,), math.inf, dtype=torch.float64)
    _, cos_t, _, _ = reference.cos_lse(
        x, w, LABELS, OFFSETS, scale=8.0, mining=Below(Ema(0.5)), ema=ema, training=True, subcenters=3
    )
    assert ema[0].item() == pytest.approx(cos_t[:2].mean().item(), abs=1e-15)
    assert ema[2].item() == pytest.approx(cos_t[2:].mean().item(), abs=1e-15)


def test_rows_must_fit() -> None:
    x, w = operands(2)
    with pytest.raises(ValueError, match="w: expected 7 classes times 3 sub-centres, got 14 rows"):
        reference.cos_lse(x, w, LABELS, OFFSETS, scale=8.0, mining=All(), subcenters=3)
