"""compat.pml where pytorch-metric-learning is not installed: the same bits, its own distance, the same refusals."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from basket_softmax import compat
from basket_softmax.compat import pml as ours

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
CLASSES, WIDTH = 97, 23


@pytest.fixture
def alone(monkeypatch) -> ModuleType:
    """A second copy of the package, imported while pytorch-metric-learning cannot be."""
    for name in list(sys.modules):
        if name.split(".")[0] == "pytorch_metric_learning":
            monkeypatch.setitem(sys.modules, name, None)
        if name.startswith("basket_softmax.compat.pml"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    monkeypatch.setattr(compat, "pml", ours)  # the import below replaces it
    return importlib.import_module("basket_softmax.compat.pml")


def mean_square(rows: torch.Tensor) -> torch.Tensor:
    return rows.square().mean()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {
            "weight_regularizer": mean_square,
            "embedding_regularizer": mean_square,
            "embedding_reg_weight": 0.5,
        },
    ],
    ids=["plain", "regularized"],
)
def test_the_same_bits(problem, alone, name, kwargs):
    x, _, labels = problem(dtype=torch.float32)
    mined = tuple(torch.tensor([0, 3, 3]) + i for i in range(3))
    results = []
    for library in (alone, ours):
        torch.manual_seed(1)
        loss = getattr(library, name)(num_classes=CLASSES, embedding_size=WIDTH, collect_stats=True, **kwargs)
        given = x.clone().requires_grad_()
        value = loss(given, labels, mined)
        gradients = torch.autograd.grad(value, (given, loss.W))
        results.append(
            (value.detach(), *gradients, torch.tensor(loss.avg_angle), loss.get_logits(x).detach())
        )
    for got, want in zip(*results, strict=True):
        assert torch.equal(got, want)


def test_types_and_parts(alone):
    loss = alone.ArcFaceLoss(CLASSES, WIDTH, weight_regularizer=mean_square)
    bases = {base.__module__.split(".")[0] for base in type(loss).__mro__}
    assert "pytorch_metric_learning" not in bases
    assert type(loss.distance).__name__ == "CosineSimilarity"
    assert isinstance(loss.reducer, nn.Module)
    assert loss.collect_stats is False
    assert loss.sub_loss_names() == ["loss", "weight_reg_loss"]


def test_hooks_are_refused_here_too(alone):
    with pytest.raises(TypeError, match=r"Mine\.scale_logits"):
        type("Mine", (alone.CosFaceLoss,), {"scale_logits": lambda self, logits, *_: logits})
