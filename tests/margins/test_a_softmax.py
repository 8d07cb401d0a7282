"""A-Softmax against the paper's formula and against pytorch-metric-learning's SphereFaceLoss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import basket_softmax as bs


def batch(seed: int = 0, classes: int = 29, rows: int = 21, size: int = 5):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(classes, size, generator=g, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=g)
    pull = torch.linspace(-2.0, 3.0, rows, dtype=torch.float64)[:, None]  # angles from 0 to pi
    x = pull * w[labels] + 0.6 * torch.randn(rows, size, generator=g, dtype=torch.float64)
    return x.requires_grad_(), w, labels


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("annealing", [0.0, 5.0])
def test_formula(m: int, annealing: float) -> None:
    """Eq. 6-7, each target's piece [n*pi/m, (n+1)*pi/m] found by hand; lambda blends with the plain cosine."""
    x, w, labels = batch()
    cos = F.normalize(x) @ F.normalize(w).t()
    psi = []
    pieces = set()
    for row, label in enumerate(labels.tolist()):
        theta = math.acos(float(cos[row, label].detach()))
        n = next(n for n in range(m) if theta <= (n + 1) * math.pi / m)
        pieces.add(n)
        angle = torch.arccos(cos[row, label])
        psi.append((-1) ** n * torch.cos(m * angle) - 2 * n)
    assert pieces == set(range(m))
    blended = (annealing * cos[torch.arange(len(x)), labels] + torch.stack(psi)) / (1 + annealing)
    is_target = torch.arange(len(w)) == labels[:, None]
    norms = x.norm(dim=1, keepdim=True)
    want = F.cross_entropy(norms * torch.where(is_target, blended[:, None], cos), labels)
    (dx,) = torch.autograd.grad(want, x)
    head = bs.SphereFaceLoss(29, 5, margin=m, annealing=annealing, dtype=torch.float64)
    head.load_full_weight(w)
    loss = head(x, labels)
    assert loss.item() == pytest.approx(want.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], dx, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("m", [1, 2, 4, 5])
def test_against_pytorch_metric_learning(m: int) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    x, w, labels = batch(3)
    theirs = losses.SphereFaceLoss(29, 5, margin=m, scale=1).double()
    with torch.no_grad():
        theirs.W.copy_(w.t())
    want = theirs(x, labels)
    head = bs.SphereFaceLoss(29, 5, margin=m, dtype=torch.float64)
    head.load_full_weight(w)
    loss = head(x, labels)
    assert loss.item() == pytest.approx(want.item(), rel=1e-12)
    dx, dw = torch.autograd.grad(loss, (x, head.weight))
    dx_there, dw_there = torch.autograd.grad(want, (x, theirs.W))
    torch.testing.assert_close(dx, dx_there, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(dw, dw_there.t(), rtol=1e-8, atol=1e-11)


def test_the_fixed_scale_has_the_same_psi() -> None:
    """With norms of 1 and the same s, A-Softmax is the kernels' SphereFace."""
    x, w, labels = batch(1)
    x = F.normalize(x.detach())
    published = bs.SphereFaceLoss(29, 5, margin=3.0, scale=12.0, dtype=torch.float64)
    fixed = bs.BasketSoftmaxLoss([29], 5, bs.SphereFace(3.0), 12.0, bs.Own(), dtype=torch.float64)
    published.load_full_weight(w)
    fixed.load_full_weight(w)
    assert published(x, labels).item() == pytest.approx(fixed(x, labels).item(), rel=1e-12)


def test_arguments() -> None:
    head = bs.SphereFaceLoss(29, 5, reduction="sum", ignore_index=99)
    assert (head.margin, head.scale) == (bs.ASoftmax(4.0, 0.0), 1.0)
    assert (head.reduction, head.ignore_index) == ("sum", 99)
    assert repr(bs.ASoftmax(3)) == "ASoftmax(margin=3.0, annealing=0.0)"
    with pytest.raises(ValueError, match=r"ASoftmax: annealing is -1.0, allowed is >= 0"):
        bs.ASoftmax(annealing=-1.0)
    with pytest.raises(ValueError, match="expected a factor of the angle > 0"):
        bs.ASoftmax(0.0)
    with pytest.raises(TypeError, match="annealing must be a number"):
        bs.ASoftmax(annealing="5")
