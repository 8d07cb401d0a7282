"""ArcFace (Deng et al. 2019, eq. 3) with pytorch-metric-learning's signature: the margin comes in degrees."""

from __future__ import annotations

import math
from typing import Any

from bbs_kernels.margins import ArcFace
from bbs_kernels.validate import angle, finite

from .constants import constant
from .hooks import is_default
from .large_margin import LargeMarginLoss

_OTHERWISE = "override modify_cosine_of_target_classes for a margin that is learned or differs by row"


class ArcFaceLoss(LargeMarginLoss):
    """Replaces `pytorch_metric_learning.losses.ArcFaceLoss`.

    Args:
        num_classes, embedding_size: C and D.
        margin: degrees, in [0, 180); the attribute `margin` holds radians afterwards, as upstream.
        scale: s > 0.
        kwargs: as for `LargeMarginLoss`.

    psi = cos(theta + m) up to theta = pi - m, then cos(theta) - m*sin(m): `boundary="hard"`, exact slope.
    Different from upstream: finite gradients where an embedding lies on a centre (its acos gives NaN there).
    """

    def __init__(
        self, num_classes: int, embedding_size: int, margin: float = 28.6, scale: float = 64, **kwargs: Any
    ) -> None:
        super().__init__(num_classes, embedding_size, margin=margin, scale=scale, **kwargs)

    def init_margin(self) -> None:
        """Turn the attribute `margin` from degrees into radians."""
        owner = type(self).__name__
        degrees = finite(owner, "margin", constant(owner, "margin", self.margin, _OTHERWISE))
        if is_default(self, "modify_cosine_of_target_classes"):  # who overrides it may mean another range
            angle(owner, "margin", degrees, "degrees")
        self.margin = math.radians(degrees)

    def target_margin(self) -> ArcFace:
        """The margin on the target cosine, from the attribute `margin` (radians)."""
        owner = type(self).__name__
        return ArcFace(angle(owner, "margin", constant(owner, "margin", self.margin, _OTHERWISE)))
