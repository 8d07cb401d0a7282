"""CosFace (Wang et al. 2018, eq. 4) with pytorch-metric-learning's signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from bbs_kernels.margins import CosFace
from bbs_kernels.validate import finite

from .large_margin import LargeMarginLoss


class CosFaceLoss(LargeMarginLoss):
    """Replaces `pytorch_metric_learning.losses.CosFaceLoss`.

    Args:
        num_classes, embedding_size: C and D.
        margin: subtracted from the target cosine; a tensor, which may be learned, is honoured as well: one value, or
            [B] values if it is assigned before a step.
        scale: s > 0.
        kwargs: as for `LargeMarginLoss`.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, margin: float = 0.35, scale: float = 64, **kwargs: Any
    ) -> None:
        super().__init__(num_classes, embedding_size, margin=margin, scale=scale, **kwargs)

    def target_margin(self) -> Callable[[Tensor], Tensor]:
        """The margin on the target cosine, from the attribute `margin`."""
        if isinstance(self.margin, Tensor):
            return self._minus_margin
        return CosFace(finite(type(self).__name__, "margin", self.margin))

    def _minus_margin(self, cos_t: Tensor) -> Tensor:
        return cos_t - self.margin
