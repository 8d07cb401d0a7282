"""Scale, margin and ignored label of compat.pml: a number, a constant tensor, or learned, given or assigned later."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")

from .pml_subclasses import CLASSES, NAMES, WIDTH, assert_same, pair_of  # noqa: E402


def radians_stay(self):
    self.margin = float(self.margin)


@pytest.mark.parametrize("name", NAMES)
def test_init_margin_decides_the_unit(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {"init_margin": radians_stay}, margin=0.3)
    assert losses[0].margin == losses[1].margin == 0.3
    assert_same(losses, x, labels)


def test_ignore_index_of_the_cross_entropy_is_honoured(problem):
    x, _, labels = problem()
    losses = pair_of("CosFaceLoss", {})
    ignored = int(labels[0])
    for loss in losses:
        loss.cross_entropy = nn.CrossEntropyLoss(reduction="none", ignore_index=ignored)
    assert_same(losses, x, labels)
    assert (
        torch.autograd.grad(losses[0](given := x.clone().requires_grad_(), labels), given)[0][0] == 0
    ).all()


def test_a_learned_scale_is_refused_in_words(problem):
    x, _, labels = problem(dtype=torch.float32)
    learned = nn.Parameter(torch.tensor(30.0))
    for name in NAMES:
        with pytest.raises(
            TypeError, match="scale: expected a number, got Parameter that requires a gradient"
        ):
            getattr(ours, name)(num_classes=5, embedding_size=4, scale=learned)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    for later in (learned, torch.tensor(30.0, requires_grad=True)):
        loss.scale = later
        with pytest.raises(TypeError, match="keep pytorch_metric_learning's loss"):
            loss(x, labels)
        del loss.scale
    loss.scale = torch.tensor([30.0, 20.0])
    with pytest.raises(ValueError, match=r"scale: expected a number, got a tensor \[2\]"):
        loss(x, labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_scale_that_is_a_constant_tensor_is_used(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {})
    for loss in losses:
        loss.scale = torch.tensor(20.0, dtype=torch.float64)
    assert_same(losses, x, labels)


def test_a_learned_margin_of_cosface_gets_its_gradient(problem):
    x, _, labels = problem()
    made = []
    for library in (ours, upstream):
        torch.manual_seed(4)
        margin = nn.Parameter(torch.tensor(0.2))
        made.append(library.CosFaceLoss(CLASSES, WIDTH, margin=margin).double())
    assert [name for name, _ in made[0].named_parameters()] == [
        name for name, _ in made[1].named_parameters()
    ]
    assert "margin" in made[0].state_dict()
    assert_same((made[0], made[1]), x, labels)
    assert "margin=Parameter" in repr(made[0])


def test_margins_per_row(problem):
    x, _, labels = problem()
    margins = torch.linspace(0.0, 0.4, len(x), dtype=torch.float64)
    losses = pair_of("CosFaceLoss", {})
    for loss in losses:
        loss.margin = margins
    assert_same(losses, x, labels)
    angular, _ = pair_of("ArcFaceLoss", {})
    angular.margin = margins
    with pytest.raises(ValueError, match="override modify_cosine_of_target_classes"):
        angular(x, labels)
    with pytest.raises(TypeError, match=r"margin: expected a number, got Parameter.*override modify_cosine"):
        ours.ArcFaceLoss(5, 4, margin=nn.Parameter(torch.tensor(28.6)))


def test_degrees_as_numpy_has_them():
    for name in ("ArcFaceLoss", "SubCenterArcFaceLoss"):
        mine = getattr(ours, name)(num_classes=5, embedding_size=4, margin=np.float64(30.0))
        assert mine.margin == pytest.approx(np.radians(30.0), rel=1e-15)
