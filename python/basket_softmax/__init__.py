"""Basket-based margin softmax for PyTorch: ArcFace and CosFace over several datasets whose identities overlap.

    import basket_softmax as bs
    loss = bs.BasketSoftmaxLoss(baskets={"webface": 10572, "glint": 360232}, embedding_size=512)
    value = loss(embeddings, labels)

Rules, guards and margins come from `bbs_kernels`, the kernels' package; `checkpoint`, `compat`, `data`,
`evaluation`, `overlaps`, `training` and `demo` are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from bbs_kernels import (
    Absolute,
    AdaFace,
    All,
    ArcFace,
    ASoftmax,
    Below,
    CombinedMargin,
    CosFace,
    CurricularFace,
    Ema,
    InterclassFilter,
    MagFace,
    MarginContext,
    NegativeMap,
    Own,
    Relative,
    SphereFace,
    TopK,
    arccos,
    check,
    moved_once,
)

from . import functional, optim
from .baskets import Baskets, LocalLabels
from .linking import IdentityLinker
from .losses import (
    AdaFaceLoss,
    ArcFaceLoss,
    BasketSoftmaxLoss,
    ClassMeans,
    CombinedMarginLoss,
    CosFaceLoss,
    CurricularFaceLoss,
    MagFaceLoss,
    SphereFaceLoss,
)

_LAZY = ("checkpoint", "compat", "data", "demo", "evaluation", "overlaps", "training")

__all__ = [
    "ASoftmax",
    "Absolute",
    "AdaFace",
    "AdaFaceLoss",
    "All",
    "ArcFace",
    "ArcFaceLoss",
    "BasketSoftmaxLoss",
    "Baskets",
    "Below",
    "ClassMeans",
    "CombinedMargin",
    "CombinedMarginLoss",
    "CosFace",
    "CosFaceLoss",
    "CurricularFace",
    "CurricularFaceLoss",
    "Ema",
    "IdentityLinker",
    "InterclassFilter",
    "LocalLabels",
    "MagFace",
    "MagFaceLoss",
    "MarginContext",
    "NegativeMap",
    "Own",
    "Relative",
    "SphereFace",
    "SphereFaceLoss",
    "TopK",
    "arccos",
    "check",
    "checkpoint",
    "compat",
    "data",
    "demo",
    "evaluation",
    "functional",
    "moved_once",
    "optim",
    "overlaps",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
