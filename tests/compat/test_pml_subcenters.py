"""compat.pml.SubCenterArcFaceLoss against the real one: loss, gradients, logits, state_dict, outliers."""

from __future__ import annotations

import pytest
import torch

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")

CLASSES, WIDTH = 23, 17


def pair(sub_centers: int, **kwargs: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    made = []
    for library in (ours, upstream):
        torch.manual_seed(4)
        loss = library.SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=WIDTH, sub_centers=sub_centers, **kwargs
        )
        made.append(loss.double())
    return made[0], made[1]


def batch(loss: torch.nn.Module, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    labels = torch.randint(CLASSES - 1, (rows,), generator=g)  # the last class has no row
    near = labels * loss.sub_centers + torch.randint(loss.sub_centers, (rows,), generator=g)
    noise = torch.randn(rows, WIDTH, generator=g, dtype=torch.float64)
    return loss.W.detach().t()[near] + noise, labels


@pytest.mark.parametrize("sub_centers", [1, 2, 3, 5])
@pytest.mark.parametrize("kwargs", [{}, {"margin": 10.0, "scale": 30.0}], ids=str)
def test_the_same_numbers(sub_centers: int, kwargs: dict) -> None:
    mine, theirs = pair(sub_centers, **kwargs)
    assert torch.equal(mine.W, theirs.W)
    mine.load_state_dict(theirs.state_dict())
    x, labels = batch(mine)
    results = []
    for loss in (mine, theirs):
        given = x.clone().requires_grad_()
        value = loss(given, labels)
        results.append((value.detach(), *torch.autograd.grad(value, (given, loss.W)), loss.get_logits(x)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_outliers() -> None:
    mine, theirs = pair(3)
    x, labels = batch(mine, rows=200)
    outliers, dominant = mine.get_outliers(x, labels, threshold=60)
    want, want_dominant = theirs.get_outliers(x, labels, threshold=60)
    assert 20 < len(outliers) < 180
    assert torch.equal(outliers, want)
    assert torch.equal(dominant[:, :-1], want_dominant[:, :-1])
    assert torch.equal(dominant[:, -1], mine.W[:, (CLASSES - 1) * 3])


@pytest.mark.parametrize("sub_centers", [0, 17])
def test_refused(sub_centers: int) -> None:
    with pytest.raises(
        ValueError, match=f"SubCenterArcFaceLoss: sub_centers: expected 1 to 16, got {sub_centers}"
    ):
        ours.SubCenterArcFaceLoss(5, 4, sub_centers=sub_centers)
