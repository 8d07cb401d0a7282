"""MagFace: the margin grows with the embedding's norm, and the norm is rewarded, so that norms become a quality.

Unlike in AdaFace the norm is trained: the margin's gradient flows into it, and a penalty g(a) beside the loss keeps it
from shrinking. Source: Meng, Zhao, Huang and Zhou, "MagFace", CVPR 2021, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..validate import finite, radians_hint
from .call import MarginContext
from .combined import BOUNDARIES, SIN_FLOOR, _check_dtype, _sin_theta


@dataclass(frozen=True)
class MagFace:
    """psi(c) = cos(theta + m(a)), and lambda_g * g(a) added to the row's loss; a = ||x|| clamped to [l_a, u_a].

    m(a) = l_margin + (u_margin - l_margin) * (a - l_a) / (u_a - l_a), in radians; g(a) = 1/a + a/u_a^2. Both pass a
    gradient to the norm inside [l_a, u_a] and none outside, as the authors' code does. For a minimum between the bounds
    the paper asks for lambda_g >= s * K * u_a^2 * l_a^2 / (u_a^2 - l_a^2), K the slope of m(a).

    Args:
        l_margin, u_margin: the margin in radians at a = l_a and at a = u_a, in [0, pi).
        l_a, u_a: bounds of the norm, 0 < l_a < u_a.
        lambda_g: weight of g(a), >= 0.
        boundary: where theta + m(a) passes pi: "hard": psi = c - m*sin(m); "easy": psi = c where c <= 0, the
            default of the authors' code; "none": cos(theta + m) throughout.

    Raises:
        TypeError, ValueError: an argument is not of these.
    """

    l_margin: float = 0.45
    u_margin: float = 0.8
    l_a: float = 10.0
    u_a: float = 110.0
    lambda_g: float = 35.0
    boundary: str = "hard"

    def __post_init__(self) -> None:
        for name in ("l_margin", "u_margin", "l_a", "u_a", "lambda_g"):
            object.__setattr__(self, name, finite("MagFace", name, getattr(self, name)))
        for name in ("l_margin", "u_margin"):
            value = getattr(self, name)
            if not 0.0 <= value < math.pi:
                raise ValueError(
                    f"MagFace: {name}: expected a number in [0, pi), in radians, got {value}{radians_hint(value)}"
                )
        if not 0.0 < self.l_a < self.u_a:
            raise ValueError(
                f"MagFace: l_a: expected 0 < l_a < u_a, got l_a = {self.l_a:g} and u_a = {self.u_a:g}"
            )
        if self.lambda_g < 0.0:
            raise ValueError(f"MagFace: lambda_g: expected a number from 0, got {self.lambda_g}")
        if self.boundary not in BOUNDARIES:
            raise ValueError(
                f"MagFace: boundary: expected one of {', '.join(map(repr, BOUNDARIES))}, got {self.boundary!r}"
            )

    def __call__(self, cos_t: Tensor, ctx: MarginContext) -> Tensor:
        """psi [B] of cos_t [B] (fp32 or fp64, TypeError otherwise); differentiable in cos_t and in ctx.norms."""
        _check_dtype(cos_t)
        return _AddedAngle.apply(cos_t, self.margin_of(ctx.norms), self.boundary)

    def margin_of(self, norms: Tensor) -> Tensor:
        """m(a) of `norms`, any shape, in radians."""
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        return self.l_margin + slope * (norms.clamp(self.l_a, self.u_a) - self.l_a)

    def row_penalty(self, ctx: MarginContext) -> Tensor:
        """lambda_g * g(a) [B], added to the losses of the rows."""
        a = ctx.norms.clamp(self.l_a, self.u_a)
        return self.lambda_g * (1.0 / a + a / self.u_a**2)


class _AddedAngle(torch.autograd.Function):
    """cos(theta + m) for a margin of each row, with both derivatives and the slope in c of `margins.ArcFace`."""

    @staticmethod
    def forward(ctx: Any, cos_t: Tensor, m: Tensor, boundary: str) -> Tensor:
        ctx.save_for_backward(cos_t, m)
        ctx.boundary = boundary
        inside = cos_t.clamp(-1.0, 1.0)
        psi = inside * torch.cos(m) - _sin_theta(inside) * torch.sin(m)
        if boundary == "hard":
            return torch.where(cos_t < -torch.cos(m), cos_t - m * torch.sin(m), psi)
        return torch.where(cos_t <= 0.0, cos_t, psi) if boundary == "easy" else psi

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        cos_t, m = ctx.saved_tensors
        inside = cos_t.clamp(-1.0, 1.0)
        sin_theta, sin_m, cos_m = _sin_theta(inside), torch.sin(m), torch.cos(m)
        sine = sin_theta * cos_m + inside * sin_m  # sin(theta + m)
        in_c, in_m = sine / sin_theta.clamp_min(SIN_FLOOR), -sine
        if ctx.boundary == "hard":
            beyond = cos_t < -cos_m
            in_c = torch.where(beyond, 1.0, in_c)
            in_m = torch.where(beyond, -(sin_m + m * cos_m), in_m)
        elif ctx.boundary == "easy":
            in_c = torch.where(cos_t <= 0.0, 1.0, in_c)
            in_m = torch.where(cos_t <= 0.0, 0.0, in_m)
        return grads[0] * in_c, grads[0] * in_m, None
