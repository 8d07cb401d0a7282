"""The losses as modules: a head with its class centres, one basket or many."""

from .basket import BasketSoftmaxLoss
from .single import ArcFaceLoss, CombinedMarginLoss, CosFaceLoss

__all__ = ["ArcFaceLoss", "BasketSoftmaxLoss", "CombinedMarginLoss", "CosFaceLoss"]
