"""The module's loss and both gradients against the fp64 reference, over rules, margins, reductions and dtypes."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from losses.planted import Batch, eager, exact, planted
from support.tolerances import TABLE, assert_gradient, assert_losses, relative_l2

RULES = [
    bs.All(), bs.Own(), bs.Below(bs.Absolute(0.3)), bs.Below(bs.Relative(0.1)), bs.TopK(), bs.TopK(3, 1),
    bs.TopK(3, 0, bs.Absolute(0.4)), bs.TopK(0, 1),
]  # fmt: skip
MARGINS = [bs.ArcFace(0.3), bs.CosFace(0.2), bs.SphereFace(1.3), bs.CombinedMargin(1.0, 0.2, 0.1)]


def check(head: bs.BasketSoftmaxLoss, batch: Batch, **more: torch.Tensor) -> None:
    loss = head(*batch, **more)
    loss.sum().backward()
    want, dx, dw = exact(head, batch, **more)
    assert loss.dtype == torch.float32
    assert_losses(loss.detach(), want, head.scale)
    baseline = eager(head, batch, **more)
    assert_gradient("dX", batch.x.grad, dx, baseline[0], "fp32")
    assert_gradient("dW", head.weight.grad, dw, baseline[1], "fp32")


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("margin", MARGINS, ids=str)
def test_rules_and_margins(mining, margin) -> None:
    check(*planted(mining, margin=margin, scale=32.0))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_reductions(reduction: str, weighted: bool) -> None:
    head, batch = planted(reduction=reduction)
    weight = torch.rand(
        len(batch.labels), generator=torch.Generator().manual_seed(2)
    )  # at most 1, as the bound
    weight[batch.labels == -1] = torch.nan  # may be anything where the row is ignored
    check(head, batch, **({"sample_weight": weight} if weighted else {}))
    if reduction == "none":
        assert (head(*batch)[batch.labels == -1] == 0).all()


def test_aliases() -> None:
    aliases = torch.full((97,), -1)
    aliases[::5] = torch.arange(20) // 2
    check(*planted(aliases=aliases))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_embeddings(dtype: torch.dtype) -> None:
    head, batch = planted(bs.Own(), scale=16.0)
    batch = Batch(batch.x.detach().to(dtype).requires_grad_(), batch.labels)
    loss = head(*batch)
    loss.backward()
    want, dx, dw = exact(head, batch)
    assert loss.dtype == torch.float32
    assert batch.x.grad.dtype == dtype
    assert head.weight.grad.dtype == torch.float32
    assert_losses(loss.detach(), want, 16.0)
    assert relative_l2(batch.x.grad, dx) < TABLE[{torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]].floor
    assert relative_l2(head.weight.grad, dw) < 1e-5


def test_double_precision() -> None:
    head, batch = planted(dtype=torch.float64)
    loss = head(*batch)
    loss.backward()
    want, dx, dw = exact(head, batch)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss.detach(), want, rtol=1e-12, atol=0.0)
    assert relative_l2(batch.x.grad, dx) < TABLE["fp64"].floor
    assert relative_l2(head.weight.grad, dw) < TABLE["fp64"].floor


def test_functional_form_is_the_same() -> None:
    head, batch = planted(bs.TopK(3, 1, bs.Absolute(0.5)))
    weight = torch.rand(len(batch.labels))
    got = bs.functional.basket_softmax(
        batch.x, head.weight, batch.labels, head.baskets.offsets, margin=head.margin, scale=head.scale,
        mining=head.mining, sample_weight=weight,
    )  # fmt: skip
    assert torch.equal(got, head(*batch, sample_weight=weight))
    with pytest.raises(ValueError, match=r"reduction: expected .*, got 'avg'"):
        bs.functional.basket_softmax(
            batch.x, head.weight, batch.labels, head.baskets.offsets, margin=head.margin, scale=1.0,
            mining=bs.Own(), reduction="avg",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("build", "margin"),
    [
        (bs.ArcFaceLoss, bs.ArcFace(0.5)),
        (bs.CosFaceLoss, bs.CosFace(0.35)),
        (bs.CombinedMarginLoss, bs.CombinedMargin(1.0, 0.3, 0.2)),
    ],
)
def test_single_dataset_heads(build, margin) -> None:
    head = build(97, 24)
    assert (head.margin, head.scale, len(head.baskets), head.weight.shape) == (margin, 64.0, 1, (97, 24))
    _, batch = planted()
    head.load_full_weight(planted()[0].weight.detach())
    check(head, batch)
    assert build(5, 3, reduction="sum", ignore_index=9).reduction == "sum"


def test_gradient_of_sample_weight() -> None:
    head, batch = planted()
    weight = torch.ones(len(batch.labels), requires_grad=True)
    loss = head(*batch, sample_weight=weight)
    (grad,) = torch.autograd.grad(loss, weight)
    valid = batch.labels != -1
    rows = planted(reduction="none")[0](*batch).detach()
    torch.testing.assert_close(grad[valid], (rows[valid] - loss.detach()) / valid.sum())
    assert (grad[~valid] == 0).all()


def test_frozen_centres_or_embeddings() -> None:
    head, batch = planted()
    head(*batch).backward()
    want = batch.x.grad
    head.weight.requires_grad_(False)
    again = batch.again()
    head(*again).backward()
    assert torch.equal(again.x.grad, want)
    head.weight.requires_grad_(True)
    head.weight.grad = None
    head(batch.x.detach(), batch.labels).backward()
    assert head.weight.grad is not None


def test_all_rows_ignored_and_zero_weights() -> None:
    head, batch = planted()
    ignored = torch.full_like(batch.labels, -1)
    for labels, weight in ((ignored, None), (batch.labels, torch.zeros(37))):
        batch.x.grad = head.weight.grad = None
        loss = head(batch.x, labels, sample_weight=weight)
        loss.backward()
        assert loss == 0
        assert (batch.x.grad == 0).all()
        assert (head.weight.grad == 0).all()


def test_second_backward_says_what_to_do() -> None:
    head, batch = planted()
    (grad,) = torch.autograd.grad(head(*batch), batch.x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*bbs_kernels\.reference"):
        grad.sum().backward()
