"""One dataset: ArcFace, CosFace, the combined family and SphereFace as drop-in heads, all with one basket."""

from __future__ import annotations

from typing import Any

from bbs_kernels import ArcFace, ASoftmax, CombinedMargin, CosFace

from .one_dataset import OneDatasetLoss


class ArcFaceLoss(OneDatasetLoss):
    """ArcFace over one dataset: -log softmax with s * cos(theta + margin) at the target.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: radians.
        scale: s.
        boundary, target_grad: as for `ArcFace`, the margin.
        **options: `reduction`, `ignore_index`, `sample_rate`, … as for `BasketSoftmaxLoss`.

    Source: Deng et al., "ArcFace", CVPR 2019, eq. 3.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.5,
        scale: float = 64.0,
        *,
        boundary: str = "hard",
        target_grad: str = "exact",
        **options: Any,
    ) -> None:
        psi = ArcFace(margin, boundary, target_grad)
        super().__init__(num_classes, embedding_size, psi, scale, **options)


class CosFaceLoss(OneDatasetLoss):
    """CosFace over one dataset: -log softmax with s * (cos(theta) - margin) at the target.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: subtracted from the cosine.
        scale: s.
        boundary, target_grad: as for `CosFace`, the margin.
        **options: as for `BasketSoftmaxLoss`.

    Source: Wang et al., "CosFace", CVPR 2018, eq. 4.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.35,
        scale: float = 64.0,
        *,
        boundary: str = "hard",
        target_grad: str = "exact",
        **options: Any,
    ) -> None:
        psi = CosFace(margin, boundary, target_grad)
        super().__init__(num_classes, embedding_size, psi, scale, **options)


class CombinedMarginLoss(OneDatasetLoss):
    """The combined family over one dataset: s * (cos(m1 * theta + m2) - m3) at the target.

    Args:
        num_classes: C.
        embedding_size: D.
        m1, m2, m3: factor of the angle, added angle in radians, subtracted from the cosine.
        scale: s.
        boundary, target_grad: as for `CombinedMargin`.
        **options: as for `BasketSoftmaxLoss`.

    Source: Deng et al., "ArcFace", CVPR 2019, eq. 4.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        scale: float = 64.0,
        *,
        boundary: str = "hard",
        target_grad: str = "exact",
        **options: Any,
    ) -> None:
        psi = CombinedMargin(m1, m2, m3, boundary, target_grad)
        super().__init__(num_classes, embedding_size, psi, scale, **options)


class SphereFaceLoss(OneDatasetLoss):
    """SphereFace over one dataset as published, A-Softmax: logits ||x|| * cos(theta), psi(theta) at the target.

    The embeddings must come with their norms, not normalised. With a fixed scale in place of the norm, as the losses
    after it have it: `BasketSoftmaxLoss([C], D, bs.SphereFace(1.5), scale=30.0)`, which the kernels do faster.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: m, factor of the angle.
        scale: factor of the norm, 1 in the paper.
        annealing: lambda, see `ASoftmax`.
        **options: as for `BasketSoftmaxLoss`.

    Source: Liu et al., "SphereFace", CVPR 2017, eq. 6-7.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 4.0,
        scale: float = 1.0,
        annealing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, ASoftmax(margin, annealing), scale, **options)
