"""Inter-class filtering against insightface's published steps, written out over dense logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import basket_softmax as bs


def published(x, w, labels, threshold: float, m3: float, s: float):
    """Cosines of other classes above the threshold are multiplied by 0; then the margin on the target."""
    cos = F.normalize(x) @ F.normalize(w).t()
    is_target = torch.arange(len(w)) == labels[:, None]
    kept = (cos <= threshold) | is_target
    cos = cos * kept
    return F.cross_entropy(s * torch.where(is_target, cos - m3, cos), labels), int((~kept).sum())


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_loss_and_gradients(threshold: float) -> None:
    g = torch.Generator().manual_seed(2)
    w = torch.randn(37, 6, generator=g, dtype=torch.float64)
    labels = torch.randint(37, (19,), generator=g)
    x = (w[labels] + torch.randn(19, 6, generator=g, dtype=torch.float64)).requires_grad_()
    dense = w.clone().requires_grad_()
    want, filtered = published(x, dense, labels, threshold, 0.35, 16.0)
    assert filtered > 0 or threshold == 0.9
    head = bs.BasketSoftmaxLoss(
        [37], 6, bs.InterclassFilter(threshold, bs.CosFace(0.35)), 16.0, bs.Own(), dtype=torch.float64
    )
    head.load_full_weight(w)
    loss = head(x, labels)
    assert loss.item() == pytest.approx(want.item(), rel=1e-12)
    mine = torch.autograd.grad(loss, (x, head.weight))
    for got, theirs in zip(mine, torch.autograd.grad(want, (x, dense)), strict=True):
        torch.testing.assert_close(got, theirs, rtol=1e-9, atol=1e-12)


def test_below_leaves_the_class_out_and_keeps_the_own_basket() -> None:
    """The differences that the docstring names: a constant logit 0 stays, and the own basket is filtered too."""
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    w = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]], dtype=torch.float64)

    def negatives(margin, mining) -> float:
        head = bs.BasketSoftmaxLoss([2, 1], 2, margin, 4.0, mining, dtype=torch.float64)
        head.load_full_weight(w)
        target = 4.0 * margin(torch.ones(1, dtype=torch.float64)).item()
        return float(torch.expm1(head(x, torch.tensor([0])).detach()) * torch.exp(torch.tensor(target)))

    margin = bs.CosFace(0.2)
    cos = 0.9 / (0.9**2 + 0.1**2) ** 0.5
    own = float(torch.exp(torch.tensor(4.0 * cos, dtype=torch.float64)))
    assert negatives(margin, bs.Below(bs.Absolute(0.5))) == pytest.approx(own, rel=1e-6)
    assert negatives(bs.InterclassFilter(0.5, margin), bs.All()) == pytest.approx(2.0, rel=1e-6)


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"InterclassFilter: threshold: expected a number above 0, got 0.0"):
        bs.InterclassFilter(0.0)
    with pytest.raises(TypeError, match="margin: expected an ArcFace, CosFace, CombinedMargin or SphereFace"):
        bs.InterclassFilter(0.4, bs.CurricularFace())
    assert bs.InterclassFilter(0.4).margin == bs.ArcFace()
