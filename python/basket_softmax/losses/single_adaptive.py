"""One dataset, margins that adapt: to the embedding's norm (AdaFace, MagFace), to the training (CurricularFace)."""

from __future__ import annotations

from typing import Any

from bbs_kernels import MagFace
from bbs_kernels.margins import AdaFace, CurricularFace

from .one_dataset import OneDatasetLoss


class AdaFaceLoss(OneDatasetLoss):
    """AdaFace over one dataset: the margin follows the quality that the embedding's norm tells.

    The embeddings must come with their norms, not normalised.

    Args:
        num_classes: C.
        embedding_size: D.
        margin, h, momentum: as for `AdaFace`.
        scale: s.
        **options: as for `BasketSoftmaxLoss`.

    Source: Kim et al., "AdaFace", CVPR 2022, eq. 14-17.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.4,
        h: float = 0.333,
        momentum: float = 0.01,
        scale: float = 64.0,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, AdaFace(margin, h, momentum), scale, **options)


class MagFaceLoss(OneDatasetLoss):
    """MagFace over one dataset: s * cos(theta + m(a)) at the target, and lambda_g * g(a) beside it, a = ||x||.

    The embeddings must come with their norms, not normalised.

    Args:
        num_classes: C.
        embedding_size: D.
        l_margin, u_margin, l_a, u_a, lambda_g, boundary: as for `MagFace`.
        scale: s.
        **options: as for `BasketSoftmaxLoss`.

    Source: Meng et al., "MagFace", CVPR 2021, section 3.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        l_margin: float = 0.45,
        u_margin: float = 0.8,
        l_a: float = 10.0,
        u_a: float = 110.0,
        lambda_g: float = 35.0,
        boundary: str = "hard",
        scale: float = 64.0,
        **options: Any,
    ) -> None:
        margin = MagFace(l_margin, u_margin, l_a, u_a, lambda_g, boundary)
        super().__init__(num_classes, embedding_size, margin, scale, **options)


class CurricularFaceLoss(OneDatasetLoss):
    """CurricularFace over one dataset: ArcFace at the target, hard negatives weighed by how far training has come.

    Args:
        num_classes: C.
        embedding_size: D.
        margin, momentum: as for `CurricularFace`; margin in radians.
        scale: s.
        **options: as for `BasketSoftmaxLoss`.

    Source: Huang et al., "CurricularFace", CVPR 2020, section 3.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.5,
        momentum: float = 0.01,
        scale: float = 64.0,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, CurricularFace(margin, momentum), scale, **options)
