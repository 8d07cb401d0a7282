"""CurricularFace: hard negatives count less early in training and more later.

It keeps a running mean of the target cosine, so it is a module and not a frozen object. Source: Huang et al.,
"CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition", CVPR 2020, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..recompute import moved_once
from ..validate import angle, finite
from .call import MarginContext
from .combined import ArcFace
from .negative_map import NegativeMap


class CurricularFace(nn.Module):
    """psi(c) = cos(theta + margin), and c_ij * (t + c_ij) in place of a negative with c_ij > cos(theta_i + margin).

    t follows the mean target cosine: near 0 at first, so that hard negatives are damped, near 1 later, when they are
    raised. It is updated from the batch before it is used, in training mode, from the rows that are not ignored; the
    threshold is cos(theta + margin) throughout, also where the target's own psi is ArcFace's extension beyond pi.

    Args:
        margin: radians, in [0, pi).
        momentum: share of a batch in t.

    The buffer `t` (scalar) starts at 0 and is part of the state_dict.

    Raises:
        TypeError, ValueError: an argument is not of these.
    """

    t: Tensor

    def __init__(self, margin: float = 0.5, momentum: float = 0.01) -> None:
        super().__init__()
        self._psi = ArcFace(angle("CurricularFace", "margin", margin))
        self.momentum = finite("CurricularFace", "momentum", momentum)
        if not 0 < momentum <= 1:
            raise ValueError(f"CurricularFace: momentum: expected a number in (0, 1], got {momentum}")
        self.register_buffer("t", torch.empty((), dtype=torch.float32))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """t starts over, at 0."""
        self.t.zero_()

    @property
    def margin(self) -> float:
        """m in radians."""
        return self._psi.margin

    def forward(self, cos_t: Tensor) -> Tensor:
        """psi [B] for cos_t [B]."""
        return self._psi(cos_t)

    @torch.no_grad()
    def negatives(self, cos_t: Tensor, ctx: MarginContext) -> NegativeMap:
        """The map of the negatives; updates t when `ctx.training`."""
        t = self.t
        if ctx.training:
            (t,) = moved_once((t,), (self._moved(cos_t, ctx.valid),))
        inside = cos_t.clamp(-1.0, 1.0)
        sin_theta = torch.sqrt((1.0 - inside) * (1.0 + inside))
        threshold = inside * math.cos(self.margin) - sin_theta * math.sin(self.margin)
        # A copy: the next forward moves the buffer, maybe before this one's backward.
        return NegativeMap(_curriculum, (threshold, t.clone().expand(len(cos_t))))

    def _moved(self, cos_t: Tensor, valid: Tensor) -> Tensor:
        """`t` after this batch."""
        used = valid & cos_t.isfinite()
        count = used.sum()
        mean = torch.where(used, cos_t, 0.0).sum() / count.clamp_min(1)
        moved = torch.lerp(self.t, mean.to(self.t.dtype), self.momentum)
        return torch.where(count > 0, moved, self.t)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, momentum={self.momentum}"


def _curriculum(cos: Tensor, threshold: Tensor, t: Tensor) -> Tensor:
    return torch.where(cos > threshold, cos * (t + cos), cos)
