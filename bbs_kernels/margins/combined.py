"""Margins on the target cosine: psi(c) of the combined family, m1, m2, m3, with phi = m1*theta + m2.

A margin acts on the B target cosines only, never on B x C logits, so it is plain torch. Each margin is a
small frozen object, called as margin(cos_t) -> psi. Values and slopes are finite for every finite cosine,
also at +-1 and slightly beyond, where the derivative of arccos is not. csrc/common/combined_margin.h has the
same formula for the op that returns losses; tests/margins/test_fused.py holds the two together.
Sources: SphereFace (Liu et al. 2017, eq. 6-7), CosFace (Wang et al. 2018, eq. 4), ArcFace (Deng et al.
2019, eq. 3-4: the combined margin).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..validate import angle, finite

SIN_FLOOR = 1e-3  # d arccos(c)/dc = -1/sin(theta) is cut here: one constant on every backend
BOUNDARIES = ("hard", "easy", "none")  # in the order of csrc/common/combined_margin.h
TARGET_GRADS = ("exact", "straight_through")


def arccos(cos_t: Tensor) -> Tensor:
    """theta = arccos(clamp(c, -1, 1)), in radians, with the finite derivative -1 / max(sin(theta), 1e-3).

    The building block for margins of your own: `torch.cos(arccos(c) + m)` has finite gradients at c = +-1.

    Args:
        cos_t: cosines, any shape, fp32 or fp64.

    Raises:
        TypeError: another dtype (a half-precision angle has lost the margin already).
    """
    _check_dtype(cos_t)
    return _Arccos.apply(cos_t)


class FamilyArguments(NamedTuple):
    """A margin of the family as the op `margin_softmax` takes it; boundary and target_grad as their index."""

    m1: float
    m2: float
    m3: float
    boundary: int
    target_grad: int


class FamilyCodes(NamedTuple):
    """The same beside a tensor that holds m1, m2 and m3."""

    boundary: int
    target_grad: int


def check_coefficients(
    owner: str, coefficients: tuple[Any, Any, Any], names: tuple[str, str, str] = ("m1", "m2", "m3")
) -> None:
    """Raise TypeError or ValueError unless m1 > 0, m2 lies in [0, pi) and m3 is finite; `names` are the caller's."""
    m1, m2, m3 = coefficients
    if finite(owner, names[0], m1) <= 0.0:
        raise ValueError(f"{owner}: {names[0]}: expected a factor of the angle above 0, got {m1}")
    angle(owner, names[1], m2)
    finite(owner, names[2], m3)


class _CombinedFamily:
    """What the four margins share: the call, and how m1, m2, m3 are checked."""

    boundary: str
    target_grad: str

    def coefficients(self) -> tuple[float, float, float]:
        """(m1, m2, m3) of phi = m1*theta + m2 and psi = cos(phi) - m3; m2 in radians."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for field in ("m1", "m2", "m3", "margin"):
            if hasattr(self, field):
                object.__setattr__(self, field, finite(owner, field, getattr(self, field)))
        m1, m2, m3 = (name if hasattr(self, name) else "margin" for name in ("m1", "m2", "m3"))
        check_coefficients(owner, self.coefficients(), (m1, m2, m3))
        for name, choices in (("boundary", BOUNDARIES), ("target_grad", TARGET_GRADS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{owner}: {name}: expected one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}"
                )

    def __call__(self, cos_t: Tensor) -> Tensor:
        """psi(cos_t), same shape and dtype (fp32 or fp64; TypeError otherwise)."""
        _check_dtype(cos_t)
        m1, m2, m3 = self.coefficients()
        return _Psi.apply(cos_t, m1, m2, m3, self.boundary, self.target_grad)


@dataclass(frozen=True)
class CombinedMargin(_CombinedFamily):
    """psi(c) = cos(m1*theta + m2) - m3, theta = arccos(c): SphereFace, ArcFace and CosFace in one.

    Args:
        m1: factor of the angle, > 0.
        m2: added angle in radians, in [0, pi).
        m3: subtracted from the cosine, finite.
        boundary: where phi = m1*theta + m2 passes pi and cos(phi) would rise again:
            "hard": c - m2*sin(m2) - m3 when m1 = 1, else SphereFace's (-1)^n cos(phi) - 2n - m3, n = floor(phi/pi);
            "easy": psi = c where c <= 0;  "none": cos(phi) - m3 throughout.
        target_grad: "exact": psi'(c) = m1*sin(phi) / max(sin(theta), 1e-3) (1 where psi is linear in c);
            "straight_through": psi'(c) := 1.

    Raises:
        TypeError, ValueError: an argument is not of these.

    Source: Deng et al. 2019 (ArcFace), eq. 4.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    boundary: str = "hard"
    target_grad: str = "exact"

    def coefficients(self) -> tuple[float, float, float]:
        """(m1, m2, m3)."""
        return self.m1, self.m2, self.m3


@dataclass(frozen=True)
class ArcFace(_CombinedFamily):
    """psi(c) = cos(theta + margin): an additive angular margin.

    Args:
        margin: radians, in [0, pi).
        boundary, target_grad: as for `CombinedMargin`.

    Source: Deng et al. 2019, eq. 3.
    """

    margin: float = 0.5
    boundary: str = "hard"
    target_grad: str = "exact"

    def coefficients(self) -> tuple[float, float, float]:
        """(1, margin, 0)."""
        return 1.0, self.margin, 0.0


@dataclass(frozen=True)
class CosFace(_CombinedFamily):
    """psi(c) = c - margin: an additive cosine margin. Its slope is exactly 1.

    Args:
        margin: subtracted from the cosine, finite.
        boundary, target_grad: as for `CombinedMargin` (only "easy" changes anything here).

    Source: Wang et al. 2018, eq. 4.
    """

    margin: float = 0.35
    boundary: str = "hard"
    target_grad: str = "exact"

    def coefficients(self) -> tuple[float, float, float]:
        """(1, 0, margin)."""
        return 1.0, 0.0, self.margin


@dataclass(frozen=True)
class SphereFace(_CombinedFamily):
    """psi(c) = (-1)^n cos(margin*theta) - 2n, n = floor(margin*theta/pi): a multiplicative angular margin.

    Args:
        margin: factor of the angle, > 0.
        boundary, target_grad: as for `CombinedMargin`.

    Source: Liu et al. 2017, eq. 7.
    """

    margin: float = 4.0
    boundary: str = "hard"
    target_grad: str = "exact"

    def coefficients(self) -> tuple[float, float, float]:
        """(margin, 0, 0)."""
        return self.margin, 0.0, 0.0


_FAMILY = (ArcFace, CosFace, CombinedMargin, SphereFace)


def family_arguments(margin: object) -> FamilyArguments | None:
    """Of a margin whose formula the kernels have; None for every other, a subclass of the four included."""
    codes = family_codes(margin)
    if codes is None or not isinstance(margin, _CombinedFamily):
        return None
    m1, m2, m3 = margin.coefficients()
    return FamilyArguments(m1, m2, m3, *codes)


def family_codes(margin: object) -> FamilyCodes | None:
    """The same without m1, m2 and m3, which are not read: `torch.compile` would make constants of them."""
    if not isinstance(margin, _CombinedFamily) or type(margin) not in _FAMILY:
        return None
    return FamilyCodes(BOUNDARIES.index(margin.boundary), TARGET_GRADS.index(margin.target_grad))


def _psi(c: Tensor, m1: float, m2: float, m3: float, boundary: str) -> Tensor:
    """The value psi(c)."""
    if m1 == 1.0 and m2 == 0.0:  # cos(arccos c) = c: no digits lost on the way there and back
        inner = c - m3
    elif m1 == 1.0:  # cos(theta + m2) by addition: in fp32 half the error of the way through the angle
        inside = c.clamp(-1.0, 1.0)
        inner = inside * math.cos(m2) - _sin_theta(inside) * math.sin(m2) - m3
        if boundary == "hard":
            inner = torch.where(c < -math.cos(m2), c - (m2 * math.sin(m2) + m3), inner)
    else:
        phi = _phi(c, m1, m2)
        if boundary == "hard":
            n = torch.floor(phi / math.pi)
            inner = _sign(n) * torch.cos(phi) - 2.0 * n - m3
        else:
            inner = torch.cos(phi) - m3
    return torch.where(c <= 0.0, c, inner) if boundary == "easy" else inner


def _slope(c: Tensor, m1: float, m2: float, boundary: str) -> Tensor:
    """The derivative psi'(c) of `_psi`, with SIN_FLOOR for the angle's own derivative."""
    one = torch.ones_like(c)
    if m1 == 1.0 and m2 == 0.0:
        return one
    inside = c.clamp(-1.0, 1.0)
    sin_theta = _sin_theta(inside)
    if m1 == 1.0:
        slope = (sin_theta * math.cos(m2) + inside * math.sin(m2)) / sin_theta.clamp_min(SIN_FLOOR)
        if boundary == "hard":
            slope = torch.where(c < -math.cos(m2), one, slope)
    else:
        phi = _phi(c, m1, m2)
        slope = m1 * torch.sin(phi) / sin_theta.clamp_min(SIN_FLOOR)
        if boundary == "hard":
            slope = slope * _sign(torch.floor(phi / math.pi))
    return torch.where(c <= 0.0, one, slope) if boundary == "easy" else slope


def _phi(c: Tensor, m1: float, m2: float) -> Tensor:
    return m1 * torch.arccos(c.clamp(-1.0, 1.0)) + m2


def _sin_theta(inside: Tensor) -> Tensor:
    # (1 - c)(1 + c) and not 1 - c^2: the difference is exact near the ends, where c^2 has lost its digits.
    return torch.sqrt((1.0 - inside) * (1.0 + inside))


def _sign(n: Tensor) -> Tensor:
    """(-1)^n."""
    return 1.0 - 2.0 * torch.remainder(n, 2.0)


class _Psi(torch.autograd.Function):
    """psi with the slope of `_slope`, so that no inf * 0 of autograd's arccos can appear."""

    @staticmethod
    def forward(
        ctx: Any, cos_t: Tensor, m1: float, m2: float, m3: float, boundary: str, target_grad: str
    ) -> Tensor:
        ctx.save_for_backward(cos_t)
        ctx.family = (m1, m2, boundary, target_grad)
        return _psi(cos_t, m1, m2, m3, boundary)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        (cos_t,) = ctx.saved_tensors
        m1, m2, boundary, target_grad = ctx.family
        if target_grad == "exact":
            grad = grad * _slope(cos_t, m1, m2, boundary)
        return grad, None, None, None, None, None


class _Arccos(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cos_t: Tensor) -> Tensor:
        ctx.save_for_backward(cos_t)
        return torch.arccos(cos_t.clamp(-1.0, 1.0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        (cos_t,) = ctx.saved_tensors
        return -grad / _sin_theta(cos_t.clamp(-1.0, 1.0)).clamp_min(SIN_FLOOR)


def _check_dtype(cos_t: Tensor) -> None:
    if cos_t.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"margin: cos_t: expected float32 or float64, got {cos_t.dtype}")
