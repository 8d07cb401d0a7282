"""Rows of length 1, and the way back of their gradient, for what is computed in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO_NORM = 1e-12  # a shorter row has no direction: cosine 0, gradient 0


def normalize(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return v / ||v|| [n, D] and 1 / ||v|| [n, 1], both 0 where the norm is below 1e-12 or not finite.

    Rows that meet such a value are known as broken and become NaN by their mask; a NaN in a product would reach others.
    """
    square = v.square().sum(dim=1, keepdim=True)
    usable = square.isfinite() & (square >= ZERO_NORM**2)
    inverse = torch.where(usable, torch.where(usable, square, 1.0).rsqrt(), 0.0)
    return torch.where(usable, v, 0.0) * inverse, inverse


def gradient_through_norm(gradient: Tensor, hat: Tensor, inverse: Tensor) -> Tensor:
    """Return the gradient of v from that of v / ||v||."""
    return (gradient - (gradient * hat).sum(dim=1, keepdim=True) * hat) * inverse
