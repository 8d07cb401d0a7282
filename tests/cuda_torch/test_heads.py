"""Each head on device "cuda", without memory: outputs and gradients where they belong, and no wait for the device."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

import basket_softmax as bs
from cuda_torch.fake_heads import (
    CLASSES,
    COMPAT,
    DTYPES,
    FUSED,
    MAPPED,
    ROWS,
    RULES,
    SINGLE,
    SIZES,
    WIDTH,
    batch,
    fast_reid,
    head,
    on_cuda,
)  # fmt: skip
from support.fake_cuda import CUDA, NoHostSync, autocast, fake_cuda
from support.pairwise import pairwise

FACTORS = {
    "margin": list({**FUSED, **MAPPED}),
    "mining": list(RULES),
    "dtype": list(DTYPES),
    "subcenters": [1, 3],
    "aliases": [False, True],
    "labels": ["global", "indices", "name"],
    "reduction": ["mean", "sum", "none"],
    "training": [True, False],
    "weighted": [False, True],
}
CASES = pairwise(FACTORS, lambda case: case["margin"] not in MAPPED or case["subcenters"] == 1)


@pytest.fixture(autouse=True)
def cuda():
    with fake_cuda():
        yield


def assert_like(gradient: Tensor | None, of: Tensor) -> None:
    assert gradient is not None
    assert (gradient.device, gradient.dtype, gradient.shape) == (CUDA, of.dtype, of.shape)


def step(
    module: nn.Module, x: Tensor, *arguments: object, lowered: torch.dtype | None = None, **options: object
):
    """Forward and backward under the watch; returns what the forward returned."""
    with NoHostSync():
        with autocast(lowered) if lowered else nullcontext():
            out = module(x, *arguments, **options)
        value = out["loss_cls"] if isinstance(out, dict) else out
        value.sum().backward()
    assert value.device == CUDA
    assert_like(x.grad, x)
    for parameter in (p for p in module.parameters() if p.requires_grad):
        assert_like(parameter.grad, parameter)
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_basket_loss(case):
    dtype, lowered = DTYPES[case["dtype"]]
    margin = on_cuda({**FUSED, **MAPPED}[case["margin"]])
    aliases = torch.arange(CLASSES, device="cuda") if case["aliases"] else None
    loss = head(
        margin=margin,
        mining=RULES[case["mining"]],
        subcenters=case["subcenters"],
        reduction=case["reduction"],
    )
    loss.train(case["training"])
    loss.set_aliases(aliases)
    x, labels = batch(dtype)
    options = {"sample_weight": torch.rand(ROWS, device="cuda")} if case["weighted"] else {}
    if case["labels"] == "indices":
        options["basket"] = torch.randint(len(SIZES), (ROWS,), device="cuda")
    elif case["labels"] == "name":
        options["basket"] = "b"
    value = step(loss, x, labels, lowered=lowered, **options)
    assert value.dtype == torch.float32
    assert value.shape == ((ROWS,) if case["reduction"] == "none" else ())
    assert {number.device for number in loss.stats().values()} == {CUDA}


def test_every_margin_meets_every_rule():
    met = {(case["margin"], case["mining"]) for case in CASES}
    assert len(met) == (len(FUSED) + len(MAPPED)) * len(RULES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SINGLE)
def test_head_of_one_dataset(kind, dtype):
    given, lowered = DTYPES[dtype]
    loss = on_cuda(lambda: SINGLE[kind](CLASSES, WIDTH))
    value = step(loss, *batch(given), lowered=lowered)
    assert (value.dtype, value.shape) == (torch.float32, ())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", COMPAT)
def test_drop_in(kind, dtype):
    given, lowered = DTYPES[dtype]
    value = step(on_cuda(COMPAT[kind]), *batch(given), lowered=lowered)
    assert (value.dtype, value.shape) == (torch.float32, ())


@pytest.mark.parametrize("kind", ["ArcSoftmax", "CosSoftmax", "CircleSoftmax"])
def test_fast_reid_head(kind):
    out = step(fast_reid(kind), *batch(torch.float32, (ROWS, WIDTH, 2, 2)))
    assert out["features"].device == CUDA


def test_the_loss_as_a_function():
    x, labels = batch(torch.float32)
    w = torch.randn(CLASSES, WIDTH, device="cuda", requires_grad=True)
    with NoHostSync():
        value = bs.functional.basket_softmax(
            x, w, labels, head().baskets.offsets, margin=bs.ArcFace(), scale=64.0, mining=bs.TopK(3)
        )
        value.backward()
    assert_like(x.grad, x)
    assert_like(w.grad, w)


def test_frozen_centres_and_frozen_backbone():
    for frozen in ("weight", "embeddings"):
        loss = head()
        x, labels = batch(torch.bfloat16)
        loss.weight.requires_grad_(frozen != "weight")
        x.requires_grad_(frozen != "embeddings")
        with NoHostSync():
            loss(x, labels).backward()
        assert (x.grad is None) == (frozen == "embeddings")
        assert (loss.weight.grad is None) == (frozen == "weight")


def test_fused_sgd_on_a_device_is_refused():
    loss = head()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    with pytest.raises(RuntimeError, match="FusedSGD works on the CPU"):
        loss(*batch(torch.float32))
    del optimizer


def test_labels_on_another_device_are_refused():
    loss = head()
    x, _ = batch(torch.float32)
    with pytest.raises(ValueError, match=r"labels: expected the device of embeddings, .*, got cpu"):
        loss(x, torch.zeros(ROWS, dtype=torch.int64))
