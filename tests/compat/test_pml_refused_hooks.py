"""Replacements of pytorch-metric-learning's steps that the kernels cannot honour: refused in words."""

from __future__ import annotations

import inspect
import types

import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")

from .pml_subclasses import CLASSES, NAMES, WIDTH, pair_of  # noqa: E402


def test_a_margin_that_returns_another_shape_is_refused(problem):
    x, _, labels = problem()
    loss, _ = pair_of("CosFaceLoss", {"modify_cosine_of_target_classes": lambda self, cos: cos[:, None]})
    with pytest.raises(ValueError, match=r"expected \[31\], one cosine per row, got \[31, 1\]"):
        loss(x, labels)


DENSE = {
    "get_cosine": lambda self, embeddings: embeddings @ self.W,
    "get_target_mask": lambda self, embeddings, labels: nn.functional.one_hot(labels, self.num_classes),
    "scale_logits": lambda self, logits, *_: logits * 2.0,
    "get_angles": lambda self, cosine: torch.acos(cosine.clamp(-0.9, 0.9)),
}
INSTEAD = {
    "get_cosine": "map the embeddings",
    "get_target_mask": "change the labels",
    "scale_logits": "set the attribute `scale`",
    "get_angles": r"override modify_cosine_of_target_classes\(cosine_of_target_classes\)",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hook", DENSE)
def test_hooks_on_all_cosines_are_refused_when_the_class_is_created(name, hook):
    base = getattr(ours, name)
    with pytest.raises(
        TypeError, match=rf"Mine\.{hook}: expected the default, got an override.*{INSTEAD[hook]}"
    ):
        type("Mine", (base,), {hook: DENSE[hook]})
    mixin = type("Mixin", (), {hook: DENSE[hook]})
    with pytest.raises(TypeError, match=hook):
        type("Mine", (mixin, base), {})


@pytest.mark.parametrize("hook", DENSE)
def test_hooks_on_all_cosines_are_refused_wherever_they_are_replaced(problem, hook, monkeypatch):
    x, _, labels = problem(dtype=torch.float32)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    loss(x, labels)
    setattr(loss, hook, types.MethodType(DENSE[hook], loss))
    with pytest.raises(TypeError, match=rf"ArcFaceLoss\.{hook}"):
        loss(x, labels)

    monkeypatch.setattr(ours.ArcFaceLoss, hook, DENSE[hook])
    with pytest.raises(TypeError, match=rf"ArcFaceLoss\.{hook}"):
        ours.ArcFaceLoss(CLASSES, WIDTH)(x, labels)
    monkeypatch.undo()

    class Mine(
        ours.ArcFaceLoss
    ):  # calls the kernels from a compute_loss of its own: the override would be lost
        def compute_loss(self, *args):
            return super().compute_loss(*args)

    setattr(Mine, hook, DENSE[hook])
    with pytest.raises(TypeError, match=rf"Mine\.{hook}"):
        Mine(CLASSES, WIDTH)(x, labels)


@pytest.mark.parametrize(
    "cross_entropy",
    [
        nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="none", weight=torch.ones(CLASSES)),
        nn.CrossEntropyLoss(),
        nn.NLLLoss(reduction="none"),
    ],
    ids=["smoothing", "weight", "mean", "other"],
)
def test_another_cross_entropy_is_refused(problem, cross_entropy):
    x, _, labels = problem(dtype=torch.float32)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    loss.cross_entropy = cross_entropy
    with pytest.raises(TypeError, match=r"ArcFaceLoss\.cross_entropy: expected CrossEntropyLoss"):
        loss(x, labels)


def test_every_method_of_upstream_is_here_and_takes_its_arguments():
    """A hook that is new upstream fails here, so that it is honoured or refused and not inherited by chance."""
    multiple_angle = {
        "get_cos_with_margin"
    }  # of LargeMarginSoftmaxLoss's own formula; these three never call it
    for name in NAMES:
        mine, theirs = getattr(ours, name), getattr(upstream, name)
        for method, function in inspect.getmembers(theirs, inspect.isfunction):
            if method in dir(nn.Module) or method in multiple_angle | {
                "__init__",
                "forward",
                "regularization_loss_names",
            }:
                continue
            here = getattr(mine, method)
            assert here.__module__.startswith("basket_softmax"), f"{name}.{method} is upstream's"
            wanted = [
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.kind == p.POSITIONAL_OR_KEYWORD
            ]
            accepted = list(inspect.signature(here).parameters)
            assert accepted[: len(wanted)] == wanted, f"{name}.{method}: {accepted}, upstream {wanted}"
