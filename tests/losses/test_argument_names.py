"""Arguments of a wrong kind: the message names the argument as the caller wrote it, what came and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import basket_softmax as bs
from basket_softmax.functional import NAMES
from bbs_kernels.fused_sgd import margin_softmax_with_sgd

X = torch.randn(4, 8)
LABELS = torch.tensor([0, 1, 6, -1])
OFFSETS = torch.tensor([0, 5, 9])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample_rate": "half"}, TypeError, "sample_rate must be a number, got 'half'"),
        ({"sample_rate": True}, TypeError, "sample_rate must be a number, got True"),
        ({"sample_rate": 1.5}, ValueError, r"sample_rate is 1\.5, allowed is \(0, 1\]"),
        ({"sample_rate": float("nan")}, ValueError, r"sample_rate is nan, allowed is \(0, 1\]"),
        ({"ignore_index": None}, TypeError, "ignore_index must be an int, got None"),
        ({"ignore_index": -1.0}, TypeError, r"ignore_index must be an int, got -1\.0"),
        ({"scale": 1e10}, ValueError, "scale is 10000000000.0, allowed are values above 0, up to 1e"),
        ({"scale": torch.tensor(64.0)}, TypeError, "scale must be a number, got tensor"),
        ({"scale": float("inf")}, ValueError, r"scale is inf, allowed are values above 0, up to 1e\+06"),
        ({"embedding_size": 8.0}, ValueError, r"embedding_size is 8\.0, allowed is a positive int"),
        ({"mining": bs.TopK}, TypeError, "mining must be All"),
        ({"baskets": "webface"}, TypeError, "baskets must be a dict of name: size or a list of sizes, got 'webface'"),
    ],
)  # fmt: skip
def test_constructor(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bs.BasketSoftmaxLoss(**{"baskets": [5, 4], "embedding_size": 8, **options})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embeddings": X.tolist()}, TypeError, "embeddings must be a tensor, got list"),
        ({"embeddings": X[0]}, ValueError, r"embeddings has shape \(8,\), allowed is \[B, 8\]"),
        ({"embeddings": X.int()}, TypeError, "embeddings is torch.int32, allowed are float64"),
        ({"embeddings": X.double()}, TypeError, "weight is torch.float32 with embeddings torch.float64, allowed is"),
        ({"labels": LABELS.to("meta")}, ValueError, "labels is on meta, allowed is the device of embeddings, cpu"),
        ({"labels": LABELS.tolist()}, TypeError, r"labels: expected a tensor of class indices .*, got list"),
        ({"labels": LABELS.tolist(), "basket": 0}, TypeError, r"labels: expected a tensor of class .*, got list"),
        ({"basket": 0.0}, TypeError, r"basket: expected a tensor of basket indices .*, an int or a name, got float"),
        ({"sample_weight": [1.0] * 4}, TypeError, "sample_weight must be a tensor or None, got list"),
        ({"sample_weight": torch.ones(4, 1)}, ValueError, r"sample_weight has shape \(4, 1\), allowed is \(4,\)"),
    ],
)  # fmt: skip
def test_call(arguments: dict, error: type[Exception], message: str) -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, mining=bs.TopK(2, 1))
    with pytest.raises(error, match=message):
        loss(**{"embeddings": X, "labels": LABELS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embeddings": None}, TypeError, "embeddings must be a tensor, got NoneType"),
        ({"embeddings": X[0]}, ValueError, r"embeddings has shape \(8,\), allowed is \[B, D\] with D > 0"),
        ({"embeddings": X.int()}, TypeError, "embeddings is torch.int32, allowed are float64"),
        ({"embeddings": X.double()}, TypeError, "weight is torch.float32 with embeddings torch.float64, allowed is"),
        ({"weight": [1.0]}, TypeError, "weight must be a tensor, got list"),
        ({"weight": X[:, :7]}, ValueError, r"weight has shape \(4, 7\), allowed is \[C, 8\]: embeddings is \(4, 8\)"),
        ({"labels": LABELS[:3]}, ValueError, r"labels has shape \(3,\), allowed is \(4,\): embeddings is \(4, 8\)"),
        ({"labels": [0, 1, 6, -1]}, TypeError, "labels: expected a tensor of class indices .*, got list"),
        ({"offsets": [0, 5, 9]}, TypeError, "offsets must be a tensor, got list"),
        ({"offsets": torch.tensor([0, 5])}, RuntimeError, "offsets run from 0 to 5, allowed is from 0 to .* 9"),
        ({"offsets": torch.tensor([0, 7, 5, 9])}, RuntimeError, r"offsets\[1\] = 7 is above offsets\[2\] = 5"),
        ({"margin": None}, TypeError, "margin must be callable"),
        ({"reduction": "avg"}, ValueError, "reduction is 'avg', allowed are 'mean', 'sum', 'none'"),
        ({"sample_weight": 1.0}, TypeError, "sample_weight must be a tensor or None, got float"),
        ({"mining": bs.Below(bs.Ema(0.5))}, ValueError, r"ema is None, allowed is a tensor \[K\]"),
        ({"mining": bs.Below(bs.Ema(0.5)), "ema": torch.zeros(3)}, ValueError, r"ema has shape \(3,\), allowed is"),
    ],
)  # fmt: skip
def test_functional_form(arguments: dict, error: type[Exception], message: str) -> None:
    good = {
        "embeddings": X, "weight": torch.randn(9, 8), "labels": LABELS, "offsets": OFFSETS,
        "margin": bs.ArcFace(0.5), "scale": 64.0, "mining": bs.TopK(2, 1),
    }  # fmt: skip
    assert bs.functional.basket_softmax(**good).isfinite()
    with pytest.raises(error, match=message):
        bs.functional.basket_softmax(**{**good, **arguments})


@pytest.mark.parametrize("margin", [bs.ArcFace(0.5), lambda cos_t: cos_t - 0.2], ids=["family", "callable"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "FusedSGD"])
def test_every_way_to_the_core_uses_the_words_of_the_caller(margin, fused: bool) -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, margin)
    if fused:
        bs.optim.FusedSGD(loss, 0.1)
    with pytest.raises(TypeError, match=r"weight is torch.float32 with embeddings torch.float64"):
        loss(X.double(), LABELS)


def test_the_fused_step_names_the_weight() -> None:
    with pytest.raises(ValueError, match="FusedSGD came with weight on meta, allowed is the CPU"):
        margin_softmax_with_sgd(
            X, torch.zeros(9, 8, device="meta"), LABELS, OFFSETS, margin=bs.ArcFace(0.5), scale=64.0,
            mining=bs.Own(), names=NAMES, step=lambda: None,
        )  # fmt: skip


def test_numpy_ints_are_ints() -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], np.int64(8), ignore_index=np.int32(-1))
    assert type(loss.ignore_index) is int
    assert loss(X, torch.tensor([0, 1, 3, -1]), basket=np.int64(1)).isfinite()
    means = bs.ClassMeans(loss, np.int64(3))
    assert means.size == 3
    loss.add_basket("new", 3, init=means)
    assert loss.num_classes == 12
    for size in (-1, 3.0, True, np.float64(3.0)):
        with pytest.raises(ValueError, match=r"size is .*, allowed is an int >= 0"):
            bs.ClassMeans(loss, size)


def test_a_setting_that_is_refused_leaves_the_old_one() -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, bs.CosFace(0.2), 30.0, bs.Own())
    for name, value in (("scale", -1.0), ("scale", "64"), ("mining", "own"), ("margin", 0.5)):
        with pytest.raises((TypeError, ValueError)):
            setattr(loss, name, value)
    assert (loss.scale, loss.mining, loss.margin) == (30.0, bs.Own(), bs.CosFace(0.2))
    assert loss(X, LABELS).isfinite()
