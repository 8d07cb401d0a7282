"""Modules under the names that they had before, for imports and for pickles of whole heads that name them."""

from __future__ import annotations

import sys

from .margins import a_softmax, adaface, call, curricularface, interclass, magface, negative_map

OLD_NAMES = {
    "bbs_kernels.a_softmax": a_softmax,
    "bbs_kernels.interclass": interclass,
    "bbs_kernels.magface": magface,
    "bbs_kernels.margin_call": call,
    "bbs_kernels.negative_map": negative_map,
    "basket_softmax.adaface": adaface,
    "basket_softmax.curricularface": curricularface,
}

for _name, _module in OLD_NAMES.items():
    sys.modules.setdefault(_name, _module)
