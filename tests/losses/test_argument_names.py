"""Arguments of a wrong kind: the message names the argument as the caller wrote it, what came and what is allowed."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

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
        ({"scale": torch.tensor(64.0)}, TypeError, "scale must be a number, got tensor"),
        ({"scale": float("inf")}, ValueError, "scale is inf, allowed are finite values above 0"),
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
        ({"labels": LABELS.tolist()}, TypeError, "labels must be an int64 tensor, got list"),
        ({"labels": LABELS.tolist(), "basket": 0}, TypeError, "labels must be an int64 tensor, got list"),
        ({"basket": 0.0}, TypeError, "basket must be an int64 tensor, an int or a name, got float"),
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
        ({"labels": [0, 1, 6, -1]}, TypeError, "labels must be a tensor, got list"),
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


def test_a_setting_that_is_refused_leaves_the_old_one() -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, bs.CosFace(0.2), 30.0, bs.Own())
    for name, value in (("scale", -1.0), ("scale", "64"), ("mining", "own"), ("margin", 0.5)):
        with pytest.raises((TypeError, ValueError)):
            setattr(loss, name, value)
    assert (loss.scale, loss.mining, loss.margin) == (30.0, bs.Own(), bs.CosFace(0.2))
    assert loss(X, LABELS).isfinite()
