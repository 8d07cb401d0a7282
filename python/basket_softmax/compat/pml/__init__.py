"""pytorch-metric-learning's ArcFaceLoss, CosFaceLoss and SubCenterArcFaceLoss: change the import, keep the rest.

    # from pytorch_metric_learning.losses import ArcFaceLoss
    from basket_softmax.compat.pml import ArcFaceLoss

Same arguments and defaults, same parameter `W` [embedding_size, num_classes], same state_dict, same loss and
gradients; its miners, reducers, regularizers, wrappers and records work, and a subclass may override its hooks, but for
those that need all cosines. pytorch-metric-learning need not be installed; where it is, the losses inherit from its
BaseMetricLossFunction.
"""

from .arcface import ArcFaceLoss
from .cosface import CosFaceLoss
from .subcenter_arcface import SubCenterArcFaceLoss

__all__ = ["ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss"]
