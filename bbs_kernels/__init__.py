"""Fused kernels of the basket-based softmax: the ops, their gradients and the dense reference.

`functional.cos_lse` is the differentiable core, `reference` its oracle. Rules, guards and margins are small
frozen objects. Losses as modules are in `basket_softmax`, which imports this package, never the other way.
"""

from . import _old_names as _old_names
from . import ema, functional, reference
from .checks import check
from .margins import (
    AdaFace,
    ArcFace,
    ASoftmax,
    CombinedMargin,
    CosFace,
    CurricularFace,
    InterclassFilter,
    MagFace,
    MarginContext,
    NegativeMap,
    SphereFace,
    arccos,
)
from .ops import register as register
from .recompute import moved_once
from .rules import Absolute, All, Below, Ema, Own, Relative, TopK
from .workspace import release_workspace

__all__ = [
    "ASoftmax",
    "Absolute",
    "AdaFace",
    "All",
    "ArcFace",
    "Below",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "Ema",
    "InterclassFilter",
    "MagFace",
    "MarginContext",
    "NegativeMap",
    "Own",
    "Relative",
    "SphereFace",
    "TopK",
    "arccos",
    "check",
    "ema",
    "functional",
    "moved_once",
    "reference",
    "release_workspace",
]
