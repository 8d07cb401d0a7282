"""insightface's margins and PartialFC_V2 (recognition/arcface_torch): change the import, keep the rest.

    from basket_softmax.compat.insightface import CombinedMarginLoss, PartialFC_V2

Same signatures, same parameter `weight` [num_local, embedding_size], same straight-through gradient of the
target, same ranges of classes on several ranks; works without a process group and without a GPU.
"""

from .margins import ArcFace, CombinedMarginLoss, CosFace
from .partial_fc import PartialFC_V2

__all__ = ["ArcFace", "CombinedMarginLoss", "CosFace", "PartialFC_V2"]
