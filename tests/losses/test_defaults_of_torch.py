"""torch's default device and default dtype: what belongs on the CPU, or in fp32, does not follow them."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from basket_softmax.compat import insightface, pml
from basket_softmax.evaluation import mean_average_precision, rank_k, roc
from bbs_kernels.class_parallel import ClassShard
from bbs_kernels.sharding import Sharding

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)


@pytest.fixture
def elsewhere():
    """ "meta" stands for any other device: a tensor that lands there by mistake has no values."""
    with torch.device("meta"):
        yield


def test_a_step_with_everything_given_on_the_cpu(elsewhere) -> None:
    for options in (
        {},
        {"margin": bs.InterclassFilter(0.5)},
        {"mining": bs.TopK(2, 1, bs.Ema(0.5))},
        {"subcenters": 2},
    ):
        loss = bs.BasketSoftmaxLoss({"a": 5, "b": 4}, 8, device="cpu", **options)
        assert loss.baskets.offsets.device.type == "cpu"
        loss(X, LABELS).backward()
        loss(X[:4], LABELS[:4], basket="b").backward()
        loss.stats()
        loss.add_basket("c", 2)
        loss(X, LABELS).backward()


def test_the_linker(elsewhere) -> None:
    loss = bs.BasketSoftmaxLoss({"a": 5, "b": 4}, 8, device="cpu")
    linker = bs.IdentityLinker(loss, exclude=-1.0, share=-1.0, probability=1.0, every=1)
    for _ in range(2):
        labels = linker(X, LABELS)
    assert loss(X, labels).isfinite()
    assert int(linker.get_extra_state()) == 2


def test_replacements(elsewhere) -> None:
    for head in (pml.ArcFaceLoss(9, 8), insightface.PartialFC_V2(insightface.ArcFace(), 8, 9)):
        torch.nn.init.normal_(
            head.to_empty(device="cpu").get_parameter("W" if hasattr(head, "W") else "weight")
        )
        assert head(X, LABELS).isfinite()


def test_shards_samplers_and_metrics(elsewhere) -> None:
    assert ClassShard(Sharding((5, 4), 2), 1).offsets.tolist() == [0, 2, 4]
    for weights in (None, [1, 1]):
        sampler = bs.data.MixedBasketSampler([0, 0, 1, 1], 2, weights)
        assert sorted(row for batch in sampler for row in batch) == [0, 1, 2, 3]
    assert roc([0.9, 0.1], [1, 0]).tar_at(0.0) == 1.0
    assert rank_k([[0.9, 0.1]], [7], [7, 8]) == mean_average_precision([[0.9, 0.1]], [7], [7, 8]) == 1.0


@pytest.mark.parametrize("make", [bs.ArcFaceLoss, bs.AdaFaceLoss, bs.CurricularFaceLoss])
def test_made_on_the_meta_device_and_filled_later(make) -> None:
    """reset_parameters() left the running statistics of the margin as to_empty() found them."""
    with torch.device("meta"):
        head = make(10, 8)
    head.to_empty(device="cpu")
    for tensor in (*head.parameters(), *head.buffers()):
        torch.nn.init.constant_(tensor, float("nan"))
    head.reset_parameters()
    fresh = dict(make(10, 8).named_buffers())
    assert {name: float(value) for name, value in head.named_buffers()} == {
        n: float(b) for n, b in fresh.items()
    }
    assert head(30 * X, LABELS).isfinite()


def test_a_margin_that_was_trained_is_not_reset_by_a_new_head() -> None:
    margin = bs.AdaFace()
    margin.mean.fill_(7.0)
    head = bs.BasketSoftmaxLoss([9], 8, margin)
    assert head.margin.mean == 7.0
    head.reset_parameters()
    assert head.margin.mean == 20.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_centres_and_statistics_are_fp32_under_any_default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        head = bs.BasketSoftmaxLoss(
            [5, 4], 8, bs.AdaFace(), mining=bs.TopK(2, 1, bs.Ema(0.5)), sample_rate=0.7, sparse_grad=True
        )
        other = bs.CurricularFaceLoss(9, 8)
        for loss in (head, other):
            assert {t.dtype for t in (*loss.parameters(), *loss.buffers())} == {torch.float32}
            value = loss(X, LABELS)
            assert value.dtype == torch.float32
            value.backward()
        assert bs.ArcFaceLoss(9, 8, dtype=torch.float64).weight.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
