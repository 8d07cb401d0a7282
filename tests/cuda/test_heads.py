"""Heads on a GPU beside the dense reference, in fp64 and, as the yardstick, in the precision itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import functional as core
from bbs_kernels import reference
from bbs_kernels.margins import BOUNDARIES, TARGET_GRADS, family_arguments
from bbs_kernels.ops.load import OPS
from support.row_losses import FAMILIES, assert_rows
from support.tolerances import assert_gradient, assert_losses

BASKETS = {"a": 700, "b": 400, "empty": 0, "c": 130}
CLASSES, WIDTH, ROWS = 1230, 96, 150
RULES = [bs.TopK(k=5), bs.Own(), bs.All(), bs.Below(bs.Absolute(0.2)), bs.TopK(k=5, guard=bs.Relative(0.1))]


def head(**options) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss(BASKETS, WIDTH, reduction="none", **options).cuda()


def batch(loss: bs.BasketSoftmaxLoss, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (ROWS,), generator=generator).cuda()
    labels[::11] = -1
    noise = 0.01 * torch.randn(ROWS, WIDTH, generator=generator).cuda()
    x = loss.weight.detach()[labels.clamp_min(0) * loss.subcenters] + noise
    return x.to(dtype).requires_grad_(), labels


def dense(
    loss: bs.BasketSoftmaxLoss, x: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses and both gradients of the dense formula in `dtype`, on the values that the kernels see."""
    w = loss.weight.detach().to(x.dtype).to(dtype).requires_grad_()
    x = x.detach().to(dtype).requires_grad_()
    lse, cos_t, *_ = reference.cos_lse(
        x, w, labels, loss.baskets.offsets, scale=loss.scale, mining=loss.mining, ignore_index=-1,
        subcenters=loss.subcenters,
    )  # fmt: skip
    losses = torch.where(labels >= 0, core.row_losses(lse, loss.margin(cos_t), loss.scale), 0.0)
    losses.sum().backward()
    return losses.detach().cpu(), x.grad.double().cpu(), w.grad.double().cpu()


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("subcenters", [1, 3])
def test_loss_and_gradients(subcenters, dtype, mining):
    loss = head(mining=mining, subcenters=subcenters)
    x, labels = batch(loss, dtype)
    losses = loss(x, labels)
    losses.sum().backward()
    want = dense(loss, x, labels, torch.float64)
    eager = dense(loss, x, labels, dtype)
    if dtype == torch.float32:
        assert_losses(losses.detach().cpu(), want[0], loss.scale)
    precision = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    assert_gradient("dx", x.grad.double().cpu(), want[1], eager[1], precision)
    assert_gradient("dw", loss.weight.grad.double().cpu(), want[2], eager[2], precision)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("target_grad", TARGET_GRADS)
def test_losses_of_the_combined_family(family, boundary, target_grad):
    margin = bs.CombinedMargin(*family, boundary, target_grad)
    x, labels = batch(head(), torch.float32)
    rule = bs.TopK(5).op_arguments()
    offsets = head().baskets.offsets
    arguments = (x.detach(), head().weight.detach(), labels, offsets, None, None, 64.0, *rule, -1)
    out = OPS.margin_softmax(*arguments, *family_arguments(margin))
    assert_rows(*(t.cpu() for t in out[:5]), margin, 64.0)
    for got, want in zip(out[3:], OPS.cos_lse(*arguments), strict=True):
        assert torch.equal(got, want)


def test_tf32_follows_the_matmul_precision():
    loss = head()
    x, labels = batch(loss, torch.float32)
    exact = loss(x, labels)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        rounded = loss(x, labels)
    finally:
        torch.set_float32_matmul_precision(before)
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0, atol=0.2)


def test_same_bits_every_time():
    loss = head()
    seen = []
    for _ in range(3):
        x, labels = batch(loss, torch.bfloat16)
        loss.weight.grad = None
        value = loss(x, labels)
        value.sum().backward()
        seen.append((value.detach(), x.grad, loss.weight.grad))
    for again in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], again, strict=True))


def test_an_ema_guard_trains():
    loss = head(mining=bs.TopK(k=5, guard=bs.Ema(1.0)))
    for _ in range(3):
        x, labels = batch(loss, torch.float32)
        loss(x, labels).sum().backward()
    assert loss.ema[[0, 1, 3]].isfinite().all()
    assert loss.ema[2].isinf()
    assert loss.stats()["mean_loss"].isfinite()
