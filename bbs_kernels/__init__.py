"""Fused kernels of the basket-based softmax: the ops, their gradients and the dense reference.

`functional.cos_lse` is the differentiable core, `reference` its oracle. Rules, guards and margins are small
frozen objects. Losses as modules are in `basket_softmax`, which imports this package, never the other way.
"""

from ._load import load

load()

from . import _autograd, ema, functional, reference  # noqa: E402  (the ops must be registered first)
from .checks import check  # noqa: E402
from .margin_call import MarginContext  # noqa: E402
from .margins import ArcFace, CombinedMargin, CosFace, SphereFace, arccos  # noqa: E402
from .rules import Absolute, All, Below, Ema, Own, Relative, TopK  # noqa: E402

__all__ = [
    "Absolute",
    "All",
    "ArcFace",
    "Below",
    "CombinedMargin",
    "CosFace",
    "Ema",
    "MarginContext",
    "Own",
    "Relative",
    "SphereFace",
    "TopK",
    "arccos",
    "check",
    "ema",
    "functional",
    "reference",
]
