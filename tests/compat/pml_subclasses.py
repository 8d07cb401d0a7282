"""A subclass of a loss of compat.pml beside the same one of pytorch-metric-learning's loss."""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses as upstream
from torch import nn

from basket_softmax.compat import pml as ours

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
CLASSES, WIDTH = 97, 23


def pair_of(name: str, body: dict, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    """(ours, upstream): subclasses with the same `body`, in fp64, with the same centres."""
    made = []
    for library in (ours, upstream):
        cls = type("Mine", (getattr(library, name),), dict(body))
        torch.manual_seed(4)
        made.append(cls(num_classes=CLASSES, embedding_size=WIDTH, **kwargs).double())
    return made[0], made[1]


def assert_same(losses: tuple[nn.Module, nn.Module], x: torch.Tensor, labels: torch.Tensor) -> list:
    results = []
    for loss in losses:
        given = x.clone().requires_grad_()
        value = loss(given, labels)
        wanted = (given, *loss.parameters())
        results.append((value.detach(), *torch.autograd.grad(value, wanted)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    return [value for value, *_ in results]
