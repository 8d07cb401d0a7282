"""Losses and gradients on the CPU are right beside a CUDA build of torch too."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from bbs_kernels import functional as core
from bbs_kernels import reference

BASKETS, WIDTH, ROWS = [17, 0, 31, 1], 13, 23
RULES = [bs.Own(), bs.All(), bs.Below(bs.Absolute(0.2)), bs.TopK(3, 1), bs.TopK(3, 0, bs.Relative(0.1))]


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("subcenters", [1, 3])
def test_loss_and_gradients_agree_with_the_reference(mining, subcenters):
    torch.manual_seed(0)
    loss = bs.BasketSoftmaxLoss(
        BASKETS, WIDTH, mining=mining, subcenters=subcenters, reduction="none", dtype=torch.float64
    )
    labels = torch.randint(sum(BASKETS), (ROWS,))
    labels[::7] = -1
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)
    got = loss(x, labels)
    got.sum().backward()

    again = x.detach().clone().requires_grad_()
    w = loss.weight.detach().clone().requires_grad_()
    lse, cos_t, *_ = reference.cos_lse(
        again, w, labels, loss.baskets.offsets, scale=loss.scale, mining=mining, ignore_index=-1,
        subcenters=subcenters,
    )  # fmt: skip
    want = torch.where(labels >= 0, core.row_losses(lse, loss.margin(cos_t), loss.scale), 0.0)
    want.sum().backward()
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss.weight.grad, w.grad, rtol=1e-9, atol=1e-9)
