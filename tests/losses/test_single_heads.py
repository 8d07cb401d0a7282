"""The one-dataset heads hand every argument on: each equals the general head with the same settings."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

X = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 2, 9])


@pytest.mark.parametrize(
    ("build", "margin", "settings"),
    [
        (bs.ArcFaceLoss, bs.ArcFace(0.3), {"margin": 0.3}),
        (bs.CosFaceLoss, bs.CosFace(0.15), {"margin": 0.15}),
        (bs.CombinedMarginLoss, bs.CombinedMargin(1.1, 0.2, 0.1), {"m1": 1.1, "m2": 0.2, "m3": 0.1}),
        (
            bs.MagFaceLoss,
            bs.MagFace(0.2, 0.6, 1.0, 5.0, 3.0, "easy"),
            {"l_margin": 0.2, "u_margin": 0.6, "l_a": 1.0, "u_a": 5.0, "lambda_g": 3.0, "boundary": "easy"},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_argument_counts(build, margin, settings: dict) -> None:
    options = {"reduction": "sum", "ignore_index": 9, "aliases": torch.tensor([4, 4, -1, -1, -1, -1, -1])}
    head = build(7, 8, scale=10.0, **settings, **options)
    general = bs.BasketSoftmaxLoss([7], 8, margin, 10.0, bs.All(), **options)
    general.load_full_weight(head.weight)
    assert head(X, LABELS).isfinite()
    assert torch.equal(head(X, LABELS), general(X, LABELS))


@pytest.mark.parametrize(
    ("head", "margin"),
    [
        (bs.ArcFaceLoss(7, 8), bs.ArcFace(0.5)),
        (bs.CosFaceLoss(7, 8), bs.CosFace(0.35)),
        (bs.CombinedMarginLoss(7, 8), bs.CombinedMargin(1.0, 0.3, 0.2)),
        (bs.MagFaceLoss(7, 8), bs.MagFace(0.45, 0.8, 10.0, 110.0, 35.0)),
    ],
    ids=["arcface", "cosface", "combined", "magface"],
)
def test_defaults(head: bs.BasketSoftmaxLoss, margin) -> None:
    assert (head.margin, head.scale, head.reduction, head.ignore_index) == (margin, 64.0, "mean", -1)
    assert head.baskets.sizes == (7,)
    assert list(head.state_dict()) == ["weight"]


def test_adaface_hands_its_arguments_on() -> None:
    head = bs.AdaFaceLoss(7, 8, margin=0.3, h=0.5, momentum=0.1, scale=10.0, reduction="sum")
    assert (head.margin.margin, head.margin.h, head.margin.momentum) == (0.3, 0.5, 0.1)
    assert (head.scale, head.reduction) == (10.0, "sum")
    default = bs.AdaFaceLoss(7, 8)
    assert (default.margin.margin, default.margin.h, default.margin.momentum) == (0.4, 0.333, 0.01)
    assert list(default.state_dict()) == ["weight", "margin.mean", "margin.std"]
