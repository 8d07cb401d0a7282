"""The losses as modules: a head with its class centres, one basket or many."""

from .basket import BasketSoftmaxLoss
from .class_means import ClassMeans
from .single import ArcFaceLoss, CombinedMarginLoss, CosFaceLoss, SphereFaceLoss
from .single_adaptive import AdaFaceLoss, CurricularFaceLoss, MagFaceLoss

__all__ = [
    "AdaFaceLoss",
    "ArcFaceLoss",
    "BasketSoftmaxLoss",
    "ClassMeans",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "MagFaceLoss",
    "SphereFaceLoss",
]
