"""AdaFace: a margin that grows or shrinks with the quality of the image, read off the embedding's norm.

It keeps running statistics of the norms, so it is a module and not a frozen object. Source: Kim, Jain and
Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, eq. 14-17.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..recompute import moved_once
from ..validate import finite, radians_hint
from .call import MarginContext
from .combined import arccos


class AdaFace(nn.Module):
    """psi(c) = cos(theta - m * z) - (m * z + m), z = clip(h * (norm - mean) / deviation, -1, 1).

    A low norm (z = -1: a poor image) gives an added angle, as in ArcFace; a high norm (z = 1) a larger
    subtracted margin. The norm itself gets no gradient from here, as in the paper.

    Args:
        margin: m, radians for the angle and cosine units for the subtraction.
        h: concentration: z reaches +-1 at 1/h standard deviations from the mean.
        momentum: share of a batch in the running mean and deviation of the norms.

    The buffers `mean` and `std` (scalars) start at 20 and 100 and are part of the state_dict. Under a process group
    they are those of the rows of all ranks. The authors' code clips every cosine to +-(1 - 1e-3) first; here only
    theta at the target is, by the same 1e-3.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, margin: float = 0.4, h: float = 0.333, momentum: float = 0.01) -> None:
        super().__init__()
        self.margin = finite("AdaFace", "margin", margin)
        self.h = finite("AdaFace", "h", h)
        self.momentum = finite("AdaFace", "momentum", momentum)
        if not 0 <= margin < math.pi / 2:
            raise ValueError(
                f"AdaFace: margin: expected a number in [0, pi/2), in radians, got {margin}{radians_hint(self.margin)}"
            )
        if h <= 0:
            raise ValueError(f"AdaFace: h: expected a number above 0, got {h}")
        if not 0 < momentum <= 1:
            raise ValueError(f"AdaFace: momentum: expected a number in (0, 1], got {momentum}")
        self.register_buffer("mean", torch.empty((), dtype=torch.float32))
        self.register_buffer("std", torch.empty((), dtype=torch.float32))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The running statistics start over, at a mean of 20 and a deviation of 100."""
        self.mean.fill_(20.0)
        self.std.fill_(100.0)

    def forward(self, cos_t: Tensor, ctx: MarginContext) -> Tensor:
        """psi [B] for cos_t [B]; updates the running statistics when `ctx.training`."""
        norms = ctx.norms.detach().clamp(1e-3, 100.0)
        mean, std = self.mean, self.std
        if ctx.training:
            mean, std = moved_once((mean, std), self._moved(norms, ctx.valid))
        z = ((norms - mean) / (std + 1e-3) * self.h).clamp(-1.0, 1.0)
        floor = 1e-3  # theta stays inside (0, pi), where cos is monotone
        theta = (arccos(cos_t) - self.margin * z).clamp(floor, math.pi - floor)
        return torch.cos(theta) - (self.margin * z + self.margin)

    @torch.no_grad()
    def _moved(self, norms: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """`mean` and `std` after this batch."""
        used = valid & norms.isfinite()
        count = used.sum()
        safe = torch.where(used, norms, 0.0)
        mean = safe.sum() / count.clamp_min(1)
        spread = torch.where(used, norms - mean, 0.0).square().sum() / (count - 1).clamp_min(1)
        enough = count > 1  # a single norm has no deviation
        std = spread.sqrt().to(self.std.dtype)
        return (
            torch.where(enough, torch.lerp(self.mean, mean.to(self.mean.dtype), self.momentum), self.mean),
            torch.where(enough, torch.lerp(self.std, std, self.momentum), self.std),
        )

    def extra_repr(self) -> str:
        return f"margin={self.margin}, h={self.h}, momentum={self.momentum}"
