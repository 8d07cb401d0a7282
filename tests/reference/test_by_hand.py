"""Numbers worked out by hand: one row, five centres on 3-4-5 triangles, so that every cosine is a short decimal.

x = (2, 0); basket a = {0, 1}, basket b = {2, 3, 4}; cosines 0.6, 0 | 0.8, 1, -1; target 0; s = 2.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bbs_kernels import reference
from bbs_kernels.margins import ArcFace, CosFace
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK

OFFSETS = torch.tensor([0, 2, 5])
LABELS = torch.tensor([0])


def operands() -> tuple[Tensor, Tensor]:
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    w = [[3.0, 4.0], [0.0, 2.0], [8.0, 6.0], [0.5, 0.0], [-5.0, 0.0]]
    return x, torch.tensor(w, dtype=torch.float64, requires_grad=True)


CASES = [  # rule, exp(lse), mined classes of basket b
    (Own(), 1.0, []),
    (All(), 1.0 + math.exp(1.6) + math.exp(2.0) + math.exp(-2.0), []),
    (Below(Absolute(0.9)), 1.0 + math.exp(1.6) + math.exp(-2.0), []),
    (Below(Relative(0.0)), 1.0 + math.exp(-2.0), []),  # g = 0.6
    (Below(Relative(-0.3)), 1.0 + math.exp(1.6) + math.exp(-2.0), []),  # g = 0.9
    (Below(Ema(2.0)), 1.0 + math.exp(1.6) + math.exp(-2.0), []),  # g = 2 * 0.45
    (TopK(1, 1), 1.0 + math.exp(1.6), [2]),
    (TopK(2, 0), 1.0 + math.exp(2.0) + math.exp(1.6), [3, 2]),
    (TopK(3, 1), 1.0 + math.exp(1.6) + math.exp(-2.0), [2, 4, -1]),
    (TopK(2, 1, Absolute(0.9)), 1.0 + math.exp(-2.0), [4, -1]),  # the guard comes before the skip
    (TopK(1, 3), 1.0, [-1]),
    (TopK(0, 1), 1.0, []),
]


@pytest.mark.parametrize(("mining", "total", "mined"), CASES, ids=[str(case[0]) for case in CASES])
def test_lse_and_mined_classes(mining, total: float, mined: list[int]) -> None:
    x, w = operands()
    ema = torch.tensor([0.45, 0.1], dtype=torch.float64)
    lse, cos_t, idx, cos = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=mining, ema=ema)
    assert lse.item() == pytest.approx(math.log(total), abs=1e-14)
    assert cos_t.item() == pytest.approx(0.6, abs=1e-15)
    assert idx.shape == cos.shape == (1, 2, len(mined))
    assert idx[0, 0].tolist() == [-1] * len(mined)
    assert idx[0, 1].tolist() == mined
    value = {2: 0.8, 3: 1.0, 4: -1.0, -1: 0.0}
    assert cos[0, 1].tolist() == pytest.approx([value[j] for j in mined], abs=1e-15)


def test_aliases() -> None:
    """Class 3 is the target's identity: never a negative, and the one that the skip was for."""
    x, w = operands()
    known = torch.tensor([7, -1, -1, 7, -1])
    lse, _, idx, _ = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=TopK(2, 1), aliases=known)
    assert idx[0, 1].tolist() == [2, 4]
    assert lse.item() == pytest.approx(math.log(1.0 + math.exp(1.6) + math.exp(-2.0)), abs=1e-14)
    for mining in (All(), Below(Absolute(2.0))):
        assert torch.equal(
            reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=mining, aliases=known)[0], lse
        )


def test_alias_in_the_own_basket() -> None:
    x, w = operands()
    known = torch.tensor([7, 7, -1, -1, -1])
    lse = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=Own(), aliases=known)[0]
    assert lse.item() == -math.inf


def test_equality_with_the_guard_is_admitted() -> None:
    """An exact copy of the target in another basket lies on the guard of Relative(0)."""
    x, w = operands()
    w = torch.cat([w.detach()[:4], w.detach()[:1]])
    for mining in (Below(Relative(0.0)), TopK(1, 0, Relative(0.0))):
        lse = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=mining)[0]
        assert lse.item() == pytest.approx(math.log(1.0 + math.exp(1.2)), abs=1e-14)


def test_gradients() -> None:
    """Own: the only negative is class 1, so p = 1 and d lse / d c_01 = s = 2."""
    x, w = operands()
    lse, _, _, _ = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=Own())
    dx, dw = torch.autograd.grad(lse.sum(), (x, w))
    torch.testing.assert_close(dx, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    want = torch.zeros(5, 2, dtype=torch.float64)
    want[1] = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(dw, want)

    _, cos_t, _, _ = reference.cos_lse(x, w, LABELS, OFFSETS, scale=2.0, mining=Own())
    dx, dw = torch.autograd.grad(cos_t.sum(), (x, w))
    torch.testing.assert_close(dx, torch.tensor([[0.0, 0.4]], dtype=torch.float64))  # (what - 0.6 xhat) / 2
    want = torch.zeros(5, 2, dtype=torch.float64)
    want[0] = torch.tensor([0.64, -0.48]) / 5  # (xhat - 0.6 what) / 5
    torch.testing.assert_close(dw, want)


def test_losses() -> None:
    """softplus(lse - s * psi): TopK(1, 1) has lse = log(1 + e^1.6) = 1.7839...."""
    for margin, want in (
        (CosFace(0.35), 1.5283790),
        (ArcFace(0.5), 1.6996824),
    ):
        x, w = operands()
        loss = reference.basket_softmax(x, w, LABELS, OFFSETS, margin=margin, scale=2.0, mining=TopK(1, 1))
        assert loss.item() == pytest.approx(want, abs=2e-7)


def test_large_loss_keeps_its_digits() -> None:
    """Target logit 50, negatives 30, shift -30: the truth is 10.0000454, the corrected form gives 0 in fp32."""
    lse, psi = torch.tensor([30.0]), torch.tensor([20.0])
    assert reference.row_losses(lse, psi, scale=1.0).item() == pytest.approx(10.0000454, abs=1e-6)


def test_reductions() -> None:
    x = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    _, w = operands()
    arguments = {"margin": CosFace(0.0), "scale": 2.0, "mining": Own()}
    labels = torch.tensor([0, 1, -1])
    first = math.log1p(math.exp(0.0 - 1.2))
    second = math.log1p(math.exp(1.6 - 2.0))
    weight = torch.tensor([1.0, 3.0, 100.0])

    def loss(reduction: str, **more: Tensor) -> list[float]:
        out = reference.basket_softmax(x, w, labels, OFFSETS, reduction=reduction, **arguments, **more)
        return out.flatten().tolist()

    assert loss("none") == pytest.approx([first, second, 0.0])
    assert loss("sum") == pytest.approx([first + second])
    assert loss("mean") == pytest.approx([(first + second) / 2])
    assert loss("none", sample_weight=weight) == pytest.approx([first, 3 * second, 0.0])
    assert loss("sum", sample_weight=weight) == pytest.approx([first + 3 * second])
    assert loss("mean", sample_weight=weight) == pytest.approx([(first + 3 * second) / 4])
