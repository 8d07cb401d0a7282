"""CurricularFace against the paper's formula written out over dense logits, and its running t."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import basket_softmax as bs


def published(x, w, labels, t: float, m: float, s: float):
    """Loss and the new t: hard negatives are those closer to the row than its target with the margin."""
    cos = F.normalize(x) @ F.normalize(w).t()
    rows = torch.arange(len(x))
    target = cos[rows, labels]
    with torch.no_grad():
        t = 0.01 * target.mean() + 0.99 * t
    theta = torch.arccos(target)
    with_margin = torch.cos(theta + m)
    hard = cos > with_margin[:, None].detach()
    logits = torch.where(hard, cos * (t + cos), cos)
    final = torch.where(theta + m < math.pi, with_margin, target - m * math.sin(m))
    is_target = torch.arange(len(w)) == labels[:, None]
    return F.cross_entropy(s * torch.where(is_target, final[:, None], logits), labels), float(t)


def batch(seed: int, classes: int = 41, rows: int = 23, size: int = 6):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(classes, size, generator=g, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=g)
    pull = torch.linspace(-2.0, 3.0, rows, dtype=torch.float64)[
        :, None
    ]  # some targets beyond pi, some learned
    x = pull * w[labels] + torch.randn(rows, size, generator=g, dtype=torch.float64)
    return x.requires_grad_(), w, labels


def test_three_steps_as_published() -> None:
    head = bs.CurricularFaceLoss(41, 6, margin=0.4, scale=24.0, dtype=torch.float64)
    head.margin.double()
    t = 0.0
    for seed in range(3):
        x, w, labels = batch(seed)
        head.load_full_weight(w)
        dense = w.clone().requires_grad_()
        want, t = published(x, dense, labels, t, 0.4, 24.0)
        loss = head(x, labels)
        assert loss.item() == pytest.approx(want.item(), rel=1e-12)
        assert head.margin.t.item() == pytest.approx(t, rel=1e-12)
        mine = torch.autograd.grad(loss, (x, head.weight))
        for got, theirs in zip(mine, torch.autograd.grad(want, (x, dense)), strict=True):
            torch.testing.assert_close(got, theirs, rtol=1e-9, atol=1e-12)


def test_hard_and_easy_negatives() -> None:
    """One row at 60 degrees from its centre: a negative at 45 degrees is hard, one at 150 is not."""
    angles = torch.tensor([60.0, 45.0, 150.0], dtype=torch.float64).deg2rad()
    w = torch.stack([angles.cos(), angles.sin()], dim=1)
    head = bs.CurricularFaceLoss(3, 2, margin=0.5, scale=4.0, dtype=torch.float64)
    head.margin.double()
    head.load_full_weight(w)
    head.margin.t.fill_(0.25)
    head.eval()
    loss = head(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0])).item()
    hard, easy = math.cos(math.radians(45)), math.cos(math.radians(150))
    negatives = math.exp(4.0 * hard * (0.25 + hard)) + math.exp(4.0 * easy)
    target = math.exp(4.0 * math.cos(math.radians(60) + 0.5))
    assert loss == pytest.approx(-math.log(target / (target + negatives)), rel=1e-12)


def test_t_moves_in_training_over_valid_rows() -> None:
    margin = bs.CurricularFace(momentum=0.1).double()
    cos_t = torch.tensor([0.2, 0.6, -0.9, torch.nan], dtype=torch.float64)
    valid = torch.tensor([True, True, False, True])
    ctx = bs.MarginContext(torch.ones(4), torch.zeros(4, dtype=torch.int64), True, valid)
    margin.negatives(cos_t, ctx)
    assert margin.t.item() == pytest.approx(0.1 * 0.4)
    margin.negatives(cos_t, ctx._replace(training=False))
    margin.negatives(cos_t, ctx._replace(valid=torch.zeros(4, dtype=torch.bool)))
    assert margin.t.item() == pytest.approx(0.1 * 0.4)
    assert list(margin.state_dict()) == ["t"]


def test_the_head_keeps_t() -> None:
    head = bs.CurricularFaceLoss(41, 6, margin=0.3, momentum=0.2, scale=10.0, reduction="sum")
    assert (head.margin.margin, head.margin.momentum, head.scale, head.reduction) == (0.3, 0.2, 10.0, "sum")
    x, _, labels = batch(0)
    head(x.float(), labels).backward()
    head(x.float(), labels)  # t changes in place between a forward and its backward without harm
    other = bs.CurricularFaceLoss(41, 6)
    assert (other.margin.margin, other.margin.momentum, other.scale) == (0.5, 0.01, 64.0)
    other.load_state_dict(head.state_dict())
    assert other.margin.t == head.margin.t != 0.0


def test_a_later_forward_does_not_change_an_earlier_gradient() -> None:
    head = bs.CurricularFaceLoss(41, 6, momentum=0.5, scale=10.0, dtype=torch.float64)
    x, w, labels = batch(1)
    head.load_full_weight(w)
    (want,) = torch.autograd.grad(head(x, labels), x)
    head.margin.t.zero_()
    first = head(x, labels)
    head(x.detach() * -1.0, labels)
    (got,) = torch.autograd.grad(first, x)
    assert torch.equal(got, want)


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"CurricularFace: momentum: expected a number in \(0, 1\], got 0"):
        bs.CurricularFace(momentum=0)
    with pytest.raises(TypeError, match=r"CurricularFace: momentum: expected a number, got 'a'"):
        bs.CurricularFace(momentum="a")
    with pytest.raises(ValueError, match=r"CurricularFace: margin: expected radians in \[0, pi\)"):
        bs.CurricularFace(28.6)


def test_two_forwards_before_one_backward() -> None:
    """t was saved as a view of the buffer, which the second forward changes in place."""
    head = bs.CurricularFaceLoss(10, 8)
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    first = head(x, torch.arange(6))
    t = head.margin.t.clone()
    second = head(x, torch.arange(6) + 2)
    (one,) = torch.autograd.grad(first, x, retain_graph=True)
    (first + second).backward()
    head.margin.t.copy_(t)
    (want,) = torch.autograd.grad(head.eval()(x, torch.arange(6)), x)
    assert torch.equal(one, want)
