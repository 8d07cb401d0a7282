"""A-Softmax, the loss of SphereFace as published: logits ||x|| * cos(theta), the angle of the target multiplied by m.

`margins.SphereFace` has the same psi under a fixed scale s, as the losses after it use it, and runs in the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..validate import finite
from .call import MarginContext
from .combined import SphereFace
from .negative_map import NegativeMap


@dataclass(frozen=True)
class ASoftmax:
    """Target logit s * ||x|| * (annealing * c + psi(c)) / (1 + annealing), negatives s * ||x|| * c_ij.

    psi(c) = (-1)^n cos(m*theta) - 2n on [n*pi/m, (n + 1)*pi/m]. The paper has s = 1 (give the head scale=1.0) and
    starts with a large annealing, 1000, that falls to 5: assign `loss.margin = ASoftmax(m, annealing)` as you train.

    Args:
        margin: m, factor of the angle, > 0; the paper has integers, of which 4 is the best.
        annealing: lambda, >= 0; 0: psi alone.

    Raises:
        TypeError, ValueError: an argument is not of these.

    Source: Liu et al., "SphereFace", CVPR 2017, eq. 6 and 7 and appendix G.
    """

    margin: float = 4.0
    annealing: float = 0.0
    _psi: SphereFace = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_psi", SphereFace(self.margin))
        object.__setattr__(self, "margin", self._psi.margin)
        object.__setattr__(self, "annealing", finite("ASoftmax", "annealing", self.annealing))
        if self.annealing < 0.0:
            raise ValueError(f"ASoftmax: annealing: expected a number from 0, got {self.annealing}")

    def __call__(self, cos_t: Tensor, ctx: MarginContext) -> Tensor:
        """The target logit over s, [B], for cos_t [B]; differentiable in ctx.norms too."""
        psi = (self.annealing * cos_t + self._psi(cos_t)) / (1.0 + self.annealing)
        return ctx.norms * psi

    def negatives(self, cos_t: Tensor, ctx: MarginContext) -> NegativeMap:
        """c_ij times the row's norm."""
        return NegativeMap(_times, (ctx.norms,))


def _times(cos: Tensor, norm: Tensor) -> Tensor:
    return cos * norm
