"""Sub-center ArcFace (Deng et al., ECCV 2020) with pytorch-metric-learning's signature."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bbs_kernels.validate import check_subcenters_number

from ...losses.fsdp import gathered
from .._head import check_device
from .arcface import ArcFaceLoss


class SubCenterArcFaceLoss(ArcFaceLoss):
    """Replaces `pytorch_metric_learning.losses.SubCenterArcFaceLoss`.

    Args:
        num_classes, embedding_size: C and D. W is [D, C * sub_centers], those of a class adjacent.
        margin: degrees, in [0, 180); the attribute `margin` holds radians afterwards, as upstream.
        scale: s > 0.
        sub_centers: centres of a class, 1 to 16; the cosine of a class is that of the nearest.
        kwargs: as for `LargeMarginLoss`.

    Different from upstream: as for `ArcFaceLoss`; `get_outliers` does not loop over the classes, and the dominant
    centre of a class without a row is its first sub-centre, not memory that nobody wrote.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 28.6,
        scale: float = 64,
        sub_centers: int = 3,
        **kwargs: Any,
    ) -> None:
        self.sub_centers = check_subcenters_number(sub_centers, "SubCenterArcFaceLoss: sub_centers")
        super().__init__(num_classes, embedding_size, margin, scale, **kwargs)

    @torch.no_grad()
    def get_outliers(
        self, embeddings: Tensor, labels: Tensor, threshold: float = 75, return_dominant_centers: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Rows far from the centre that most rows of their class are nearest to: candidates for wrong labels.

        Args:
            embeddings: [N, D]; labels: [N] integer class indices in [0, C).
            threshold: degrees; a row whose angle with its class's dominant centre is larger is an outlier.
            return_dominant_centers: taken for the signature; upstream returns both for False too, and so does this.

        Returns:
            Indices of the outliers, ordered by class, and the dominant centres [D, C].
        """
        targets = self.checked_labels(embeddings, labels)
        if targets is None:
            raise ValueError("SubCenterArcFaceLoss: labels are required")
        self.cast_types(embeddings.dtype, embeddings.device)
        check_device("SubCenterArcFaceLoss", "W", self.W, embeddings)
        dtype = torch.promote_types(embeddings.dtype, self.W.dtype)
        unit = torch.nn.functional.normalize
        per_class = (
            gathered(self.W).to(dtype).t().unflatten(0, (self.num_classes, self.sub_centers))
        )  # [C, r, D]
        own = unit(per_class[targets], dim=2)
        cosines = torch.einsum("nd,nrd->nr", unit(embeddings.to(dtype), dim=1), own)
        votes = torch.zeros(self.num_classes * self.sub_centers, dtype=torch.int64, device=targets.device)
        nearest = targets * self.sub_centers + cosines.argmax(dim=1)
        votes.index_add_(0, nearest, torch.ones_like(nearest))
        dominant = votes.view(-1, self.sub_centers).argmax(dim=1)  # [C], the first of equals
        far = cosines.gather(1, dominant[targets, None])[:, 0] < math.cos(math.radians(threshold))
        order = targets.argsort(stable=True)
        rows = torch.arange(self.num_classes, device=dominant.device)
        return order[far[order]], per_class[rows, dominant].t()
