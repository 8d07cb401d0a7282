"""Margins on the target cosine, all of them: frozen objects, or modules where they have statistics. No loss, no kernel.

combined        psi of m1, m2, m3: ArcFace, CosFace, SphereFace, CombinedMargin
adaface, magface, curricularface, a_softmax, interclass   one each
negative_map    what a margin returns that changes the negatives too
call            how a margin is called, and what it may look at
"""

from .a_softmax import ASoftmax
from .adaface import AdaFace
from .call import MarginContext
from .combined import (
    BOUNDARIES,
    SIN_FLOOR,
    TARGET_GRADS,
    ArcFace,
    CombinedMargin,
    CosFace,
    FamilyArguments,
    FamilyCodes,
    SphereFace,
    arccos,
    check_coefficients,
    family_arguments,
    family_codes,
)
from .curricularface import CurricularFace
from .interclass import InterclassFilter
from .magface import MagFace
from .negative_map import NegativeMap

__all__ = [
    "BOUNDARIES",
    "SIN_FLOOR",
    "TARGET_GRADS",
    "ASoftmax",
    "AdaFace",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "FamilyArguments",
    "FamilyCodes",
    "InterclassFilter",
    "MagFace",
    "MarginContext",
    "NegativeMap",
    "SphereFace",
    "arccos",
    "check_coefficients",
    "family_arguments",
    "family_codes",
]
