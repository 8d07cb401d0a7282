"""The losses as modules: a head with its class centres, one basket or many."""

from .basket import BasketSoftmaxLoss
from .class_means import ClassMeans
from .single import ArcFaceLoss, CombinedMarginLoss, CosFaceLoss

__all__ = ["ArcFaceLoss", "BasketSoftmaxLoss", "ClassMeans", "CombinedMarginLoss", "CosFaceLoss"]
