"""Arguments of a wrong kind: the message names the argument as the caller wrote it, what was expected and what came."""

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
        ({"sample_rate": "half"}, TypeError, "sample_rate: expected a number, got 'half'"),
        ({"sample_rate": True}, TypeError, "sample_rate: expected a number, got True"),
        ({"sample_rate": 1.5}, ValueError, r"sample_rate: expected a number in \(0, 1\], got 1\.5"),
        ({"sample_rate": float("nan")}, ValueError, r"sample_rate: expected a number in \(0, 1\], got nan"),
        ({"ignore_index": None}, TypeError, "ignore_index: expected an int, got None"),
        ({"ignore_index": -1.0}, TypeError, r"ignore_index: expected an int, got -1\.0"),
        ({"scale": 1e10}, ValueError, "scale: expected a number above 0, up to 1e.06, got 10000000000.0"),
        ({"scale": torch.tensor(64.0)}, TypeError, "scale: expected a number, got tensor"),
        ({"scale": float("inf")}, ValueError, r"scale: expected a number above 0, up to 1e\+06, got inf"),
        ({"embedding_size": 8.0}, ValueError, r"embedding_size: expected a positive int, got 8\.0"),
        ({"ignore_index": 10**30}, ValueError, "ignore_index: expected an int of 64 bits, got 1000"),
        ({"stash_bytes": "x"}, TypeError, "stash_bytes: expected an int, got 'x'"),
        ({"workspace_bytes": -1}, ValueError, "workspace_bytes: expected a number of bytes from 0, got -1"),
        ({"mining": bs.TopK}, TypeError, "mining: expected All"),
        ({"baskets": "webface"}, TypeError, "baskets: expected a dict of name: size or a list of sizes, got 'webface'"),
    ],
)  # fmt: skip
def test_constructor(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bs.BasketSoftmaxLoss(**{"baskets": [5, 4], "embedding_size": 8, **options})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embeddings": X.tolist()}, TypeError, "embeddings: expected a tensor, got list"),
        ({"embeddings": X[0]}, ValueError, r"embeddings: expected shape \[B, 8\], got \(8,\)"),
        ({"embeddings": X.int()}, TypeError, "embeddings: expected float64, .*, got torch.int32"),
        ({"embeddings": X.double()}, TypeError, "weight: expected torch.float64 with embeddings .*, got"),
        ({"labels": LABELS.to("meta")}, ValueError, "labels: expected the device of embeddings, cpu"),
        ({"labels": LABELS.tolist()}, TypeError, r"labels: expected a tensor of class indices .*, got list"),
        ({"labels": LABELS.tolist(), "basket": 0}, TypeError, "labels: expected a tensor .*, got list"),
        ({"basket": 0.0}, TypeError, r"basket: expected a tensor of .*, an int or a name, got float"),
        ({"sample_weight": torch.ones(4) * 1j}, TypeError, "sample_weight: expected real numbers, got torch.complex64"),
        ({"sample_weight": [1.0] * 4}, TypeError, "sample_weight: expected a tensor or None, got list"),
        ({"sample_weight": torch.ones(4, 1)}, ValueError, r"sample_weight: expected shape \(4,\), got \(4, 1\)"),
    ],
)  # fmt: skip
def test_call(arguments: dict, error: type[Exception], message: str) -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, mining=bs.TopK(2, 1))
    with pytest.raises(error, match=message):
        loss(**{"embeddings": X, "labels": LABELS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embeddings": None}, TypeError, "embeddings: expected a tensor, got NoneType"),
        ({"embeddings": X[0]}, ValueError, r"embeddings: expected shape \[B, D\] with D > 0, got \(8,\)"),
        ({"embeddings": X.int()}, TypeError, "embeddings: expected float64, .*, got torch.int32"),
        ({"embeddings": X.double()}, TypeError, "weight: expected torch.float64 with embeddings .*, got"),
        ({"weight": [1.0]}, TypeError, "weight: expected a tensor, got list"),
        ({"weight": X[:, :7]}, ValueError, r"weight: expected shape \[C, 8\] with embeddings \(4, 8\), got \(4, 7\)"),
        ({"labels": LABELS[:3]}, ValueError, r"labels: expected shape \(4,\) with embeddings \(4, 8\), got \(3,\)"),
        ({"labels": [0, 1, 6, -1]}, TypeError, "labels: expected a tensor of class indices .*, got list"),
        ({"offsets": [0, 5, 9]}, TypeError, "offsets: expected a tensor, got list"),
        ({"offsets": torch.tensor([0, 5])}, RuntimeError, "offsets: expected to run from 0 to .* 9, got 0 to 5"),
        ({"offsets": torch.tensor([0, 7, 5, 9])}, RuntimeError, r"offsets: .* got offsets\[1\] = 7 above .* = 5"),
        ({"margin": None}, TypeError, "margin: expected a callable"),
        ({"reduction": "avg"}, ValueError, "reduction: expected one of 'mean', 'sum', 'none', got 'avg'"),
        ({"sample_weight": 1.0}, TypeError, "sample_weight: expected a tensor or None, got float"),
        ({"mining": bs.Below(bs.Ema(0.5))}, ValueError, r"ema: expected a tensor \[K\] .*, got None"),
        ({"mining": bs.Below(bs.Ema(0.5)), "ema": torch.zeros(3)}, ValueError, r"ema: expected shape .*, got \(3,\)"),
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
    with pytest.raises(TypeError, match=r"weight: expected torch.float64 with embeddings .*, got"):
        loss(X.double(), LABELS)


def test_the_fused_step_names_the_weight() -> None:
    with pytest.raises(
        ValueError, match="weight: expected a tensor on the CPU with FusedSGD, got one on meta"
    ):
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
        with pytest.raises(ValueError, match=r"size: expected an int >= 0, got .*"):
            bs.ClassMeans(loss, size)


def test_a_setting_that_is_refused_leaves_the_old_one() -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, bs.CosFace(0.2), 30.0, bs.Own())
    for name, value in (("scale", -1.0), ("scale", "64"), ("mining", "own"), ("margin", 0.5)):
        with pytest.raises((TypeError, ValueError)):
            setattr(loss, name, value)
    assert (loss.scale, loss.mining, loss.margin) == (30.0, bs.Own(), bs.CosFace(0.2))
    assert loss(X, LABELS).isfinite()
