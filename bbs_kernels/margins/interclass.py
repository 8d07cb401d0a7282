"""Inter-class filtering as insightface publishes it: a negative with a cosine above a threshold counts as cosine 0."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..validate import finite
from .call import MarginContext
from .combined import ArcFace, _CombinedFamily
from .negative_map import NegativeMap


@dataclass(frozen=True)
class InterclassFilter:
    """psi of `margin` at the target; a negative whose cosine is above `threshold` gets cosine 0 and no gradient.

    For datasets in which one identity has several labels: a class that looks like the row may be the row. Other than
    under the rule `Below`, the threshold holds in the row's own basket too, and a class that is filtered stays in the
    softmax with the constant logit 0.

    Args:
        threshold: cosine above which a negative is filtered, > 0.
        margin: `ArcFace`, `CosFace`, `CombinedMargin` or `SphereFace`.

    Raises:
        TypeError, ValueError: an argument is not of these.

    Source: insightface, recognition/arcface_torch, `interclass_filtering_threshold` of CombinedMarginLoss.
    """

    threshold: float
    margin: _CombinedFamily = field(default_factory=ArcFace)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", finite("InterclassFilter", "threshold", self.threshold))
        if self.threshold <= 0.0:
            raise ValueError(f"InterclassFilter: threshold: expected a number above 0, got {self.threshold}")
        if not isinstance(self.margin, _CombinedFamily):
            raise TypeError(
                "InterclassFilter: margin: expected an ArcFace, CosFace, CombinedMargin or SphereFace, got "
                f"{self.margin!r}"
            )

    def __call__(self, cos_t: Tensor) -> Tensor:
        """psi(cos_t) of `margin`."""
        return self.margin(cos_t)

    def negatives(self, cos_t: Tensor, ctx: MarginContext) -> NegativeMap:
        """0 above the threshold, c elsewhere."""
        return NegativeMap(self._filtered)

    def _filtered(self, cos: Tensor) -> Tensor:
        return torch.where(cos > self.threshold, 0.0, cos)
