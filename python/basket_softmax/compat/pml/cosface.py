"""CosFace (Wang et al. 2018, eq. 4) with pytorch-metric-learning's signature."""

from __future__ import annotations

from typing import Any

from bbs_kernels.margins import CosFace

from .large_margin import LargeMarginLoss


class CosFaceLoss(LargeMarginLoss):
    """Replaces `pytorch_metric_learning.losses.CosFaceLoss`.

    Args:
        num_classes, embedding_size: C and D.
        margin: subtracted from the target cosine.
        scale: s > 0.
        kwargs: as for `LargeMarginLoss`.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, margin: float = 0.35, scale: float = 64, **kwargs: Any
    ) -> None:
        super().__init__(num_classes, embedding_size, margin=margin, scale=scale, **kwargs)

    def target_margin(self) -> CosFace:
        """The margin on the target cosine, from the attribute `margin`."""
        return CosFace(self.margin)
