"""The one-dataset heads hand every argument on: each equals the general head with the same settings."""

from __future__ import annotations

import warnings

import numpy as np
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


@pytest.mark.parametrize("build", [bs.ArcFaceLoss, bs.CosFaceLoss, bs.CombinedMarginLoss])
def test_boundary_and_target_grad_are_those_of_the_margin(build) -> None:
    head = build(7, 8, boundary="easy", target_grad="straight_through")
    assert (head.margin.boundary, head.margin.target_grad) == ("easy", "straight_through")
    assert (build(7, 8).margin.boundary, build(7, 8).margin.target_grad) == ("hard", "exact")
    with pytest.raises(ValueError, match="boundary: expected one of"):
        build(7, 8, boundary="soft")


@pytest.mark.parametrize(
    "build",
    [bs.ArcFaceLoss, bs.CosFaceLoss, bs.CombinedMarginLoss, bs.SphereFaceLoss, bs.AdaFaceLoss, bs.MagFaceLoss,
     bs.CurricularFaceLoss],
)  # fmt: skip
def test_a_rule_for_one_dataset_is_refused(build) -> None:
    """It was "got multiple values for argument 'mining'"."""
    with pytest.raises(
        TypeError, match=rf"{build.__name__} is for one dataset and takes no mining: BasketSoftmaxLoss"
    ):
        build(7, 8, mining=bs.All())


def test_a_second_dataset_under_own_is_said() -> None:
    head = bs.ArcFaceLoss(7, 8)
    with pytest.warns(
        UserWarning, match=r"mining is still Own\(\): classes of the other basket are no negatives"
    ):
        head.add_basket("new", 3)
    for quiet in (bs.ArcFaceLoss(7, 8), bs.BasketSoftmaxLoss([7], 8, mining=bs.Own())):
        if isinstance(quiet, bs.ArcFaceLoss):
            quiet.mining = bs.TopK()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            quiet.add_basket("new", 3)


def test_numpy_scalars_are_settings() -> None:
    head = bs.BasketSoftmaxLoss(
        [5, 4], np.int64(8), bs.ArcFace(np.float32(0.5)), np.float32(16), bs.TopK(np.int64(2), np.int32(1)),
        sample_rate=np.float32(0.5), sparse_grad=True, subcenters=np.int64(2), ignore_index=np.int64(-7),
    )  # fmt: skip
    assert (head.scale, head.sample_rate, head.mining) == (16.0, 0.5, bs.TopK(2, 1))
    assert type(head.mining.k) is int
    head(X, torch.tensor([0, 1, 2, 3, 4, 5, 6, 2, -7])).backward()
    with pytest.raises(TypeError, match="scale: expected a number, got True"):
        head.scale = True


def test_the_class_of_a_margin_is_refused_when_the_head_is_made() -> None:
    with pytest.raises(TypeError, match=r"margin: expected an object such as .*, got the class ArcFace"):
        bs.BasketSoftmaxLoss([5], 8, margin=bs.ArcFace)
