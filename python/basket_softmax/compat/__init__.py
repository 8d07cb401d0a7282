"""Drop-in replacements with the names, signatures and defaults of other libraries.

`compat.pml`: pytorch-metric-learning's ArcFaceLoss, CosFaceLoss and SubCenterArcFaceLoss.
`compat.insightface`: insightface's margins and PartialFC_V2.
`compat.fastreid`: fast-reid's EmbeddingHead.
None of the libraries is needed. `pml` imports pytorch-metric-learning where it is installed, for its types, and
`fastreid.registered`, which only its users import, enters a model in fast-reid's registries; so each module is loaded
when first used. What differs from the libraries, and why, is stated in each docstring.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["fastreid", "insightface", "pml"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
