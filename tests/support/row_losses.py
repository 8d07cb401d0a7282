"""What an op makes of lse and cos_t on B rows, loss and both derivatives, beside margins/combined.py in fp64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bbs_kernels import functional as core
from bbs_kernels.margins import SIN_FLOOR, CombinedMargin

FAMILIES = [  # m1, m2, m3
    (1.0, 0.5, 0.0), (1.0, 0.0, 0.35), (1.35, 0.0, 0.0), (4.0, 0.0, 0.0), (1.0, 0.3, 0.2), (1.1, 0.3, 0.1),
    (0.9, 0.4, 0.2), (2.0, 1.2, -0.1),
]  # fmt: skip


def exact_rows(
    lse: Tensor, cos_t: Tensor, margin: CombinedMargin, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and its derivatives by lse and by cos_t, fp64."""
    lse, cos_t = lse.double().requires_grad_(), cos_t.double().requires_grad_()
    losses = core.row_losses(lse, margin(cos_t), scale)
    grads = torch.autograd.grad(losses.sum(), (lse, cos_t))
    return losses.detach(), *grads


def settled(cos_t: Tensor, margin: CombinedMargin) -> Tensor:
    """Where psi does not jump within a rounding, as it does at phi = pi with m1 = 1."""
    if margin.boundary != "hard" or margin.m1 != 1.0 or margin.m2 == 0.0:
        return torch.ones_like(cos_t, dtype=torch.bool)
    return (cos_t.double() + math.cos(margin.m2)).abs() > 1e-6


def assert_rows(
    loss: Tensor, grad_lse: Tensor, grad_cos_t: Tensor, lse: Tensor, cos_t: Tensor, margin: CombinedMargin,
    scale: float,
) -> None:  # fmt: skip
    """Errors of a few roundings of what enters; NaN where the row is NaN, zeros where it has no negative."""
    nan, empty = lse.isnan() | cos_t.isnan(), lse == -torch.inf
    for got in (loss, grad_lse, grad_cos_t):
        assert torch.equal(got.isnan(), nan)
        assert (got[empty & ~nan] == 0).all()
    loss, grad_lse, grad_cos_t, lse, cos_t = (
        t[~nan & ~empty & settled(cos_t, margin)] for t in (loss, grad_lse, grad_cos_t, lse, cos_t)
    )
    finfo = torch.finfo(loss.dtype)
    want, want_lse, want_cos_t = exact_rows(lse, cos_t, margin, scale)
    inside = cos_t.double().clamp(-1.0, 1.0)
    divisor = ((1 - inside) * (1 + inside)).sqrt().clamp_min(SIN_FLOOR)
    phi = margin.m1 * math.pi + margin.m2
    logit = 4 * finfo.eps * (lse.double().abs() + scale * (2 + 2 * phi))
    slope = 8 * finfo.eps * (1 + margin.m1) * (1 + phi) / divisor
    p = -torch.expm1(-want)
    for name, got, exact, bound in (
        ("loss", loss, want, p * logit + 4 * finfo.eps * want),
        ("grad_lse", grad_lse, want_lse, p * (logit + 4 * finfo.eps)),
        (
            "grad_cos_t",
            grad_cos_t,
            want_cos_t,
            want_cos_t.abs() * (logit + 4 * finfo.eps) + scale * p * slope,
        ),
    ):
        excess = (got.double() - exact).abs() - bound - finfo.tiny
        assert (excess <= 0).all(), f"{name}: off by {excess.max():.3g} beyond the rounding, {margin}"
