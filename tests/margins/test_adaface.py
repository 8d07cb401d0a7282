"""AdaFace against its published formula, and its running statistics."""

from __future__ import annotations

import math

import pytest
import torch

import basket_softmax as bs


def context(norms, training=False, valid=None):
    norms = torch.as_tensor(norms, dtype=torch.float64).requires_grad_()
    valid = torch.ones(len(norms), dtype=torch.bool) if valid is None else valid
    return bs.MarginContext(norms, torch.zeros(len(norms), dtype=torch.int64), training, valid)


@pytest.mark.parametrize("h", [0.333, 1.0])
def test_formula(h: float) -> None:
    """Eq. 14: z = clip((norm - mean) / (deviation / h)); eq. 15-16 with the authors' 1e-3 beside the deviation."""
    margin = bs.AdaFace(0.4, h=h).double()
    margin.mean.fill_(10.0)
    margin.std.fill_(2.0)
    c = torch.linspace(-0.9, 0.9, 8, dtype=torch.float64, requires_grad=True)
    norms = [1.0, 6.0, 9.5, 9.9, 10.0, 10.4, 13.0, 80.0]
    ctx = context(norms)
    psi = margin(c, ctx)
    for got, cos, norm in zip(psi.tolist(), c.tolist(), norms, strict=True):
        z = max(-1.0, min(1.0, (norm - 10.0) / ((2.0 + 1e-3) / h)))
        theta = min(math.pi - 1e-3, max(1e-3, math.acos(cos) - 0.4 * z))
        assert got == pytest.approx(math.cos(theta) - (0.4 * z + 0.4))
    psi.sum().backward()
    assert c.grad.isfinite().all()
    assert ctx.norms.grad is None  # the quality is an indicator, not something to train


def test_ends_of_the_quality_scale():
    margin = bs.AdaFace(0.5).double()
    margin.std.fill_(0.1)
    c = torch.tensor([0.3, 0.3, 0.3], dtype=torch.float64)
    low, middle, high = margin(c, context([0.0, 20.0, 99.0]))
    assert low == pytest.approx(math.cos(math.acos(0.3) + 0.5))  # ArcFace
    assert middle == pytest.approx(0.3 - 0.5)  # CosFace
    assert high == pytest.approx(math.cos(math.acos(0.3) - 0.5) - 1.0)


def test_most_of_a_batch_lies_inside_the_scale():
    """h = 0.333 puts the ends at three deviations: one norm in 300 is clipped, not three in four."""
    margin = bs.AdaFace(0.4).double()
    margin.mean.fill_(20.0)
    margin.std.fill_(2.0)
    c = torch.zeros(2, dtype=torch.float64)
    one_deviation, ends = margin(c, context([22.0, 50.0]))
    assert one_deviation == pytest.approx(math.sin(0.4 / 3) - 0.4 * 4 / 3, abs=2e-4)
    assert ends == pytest.approx(math.sin(0.4) - 0.8)


def test_statistics_move_in_training_over_valid_rows_only():
    margin = bs.AdaFace(momentum=0.1).double()
    norms = [5.0, 7.0, 9.0, 1e6]
    valid = torch.tensor([True, True, True, False])
    margin(torch.zeros(4, dtype=torch.float64), context(norms, True, valid))
    assert margin.mean.item() == pytest.approx(0.9 * 20 + 0.1 * 7)
    assert margin.std.item() == pytest.approx(0.9 * 100 + 0.1 * 2)
    before = margin.mean.clone(), margin.std.clone()
    margin(torch.zeros(4, dtype=torch.float64), context(norms, False, valid))
    margin(torch.zeros(1, dtype=torch.float64), context([3.0], True))  # one norm has no deviation
    assert (margin.mean, margin.std) == before


def test_messages():
    for name, value in (("margin", 2.0), ("h", 0.0), ("momentum", 0.0)):
        with pytest.raises(ValueError, match=f"AdaFace: {name}: expected .*, got {value}"):
            bs.AdaFace(**{name: value})
