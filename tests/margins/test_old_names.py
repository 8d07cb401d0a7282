"""Modules that moved are found under their old names, by imports and by pickles of whole heads."""

from __future__ import annotations

import importlib
import pickle

import pytest

import basket_softmax as bs
from bbs_kernels._old_names import OLD_NAMES

HELD = {
    "bbs_kernels.a_softmax": bs.ASoftmax(3),
    "bbs_kernels.interclass": bs.InterclassFilter(0.4),
    "bbs_kernels.magface": bs.MagFace(),
    "basket_softmax.adaface": bs.AdaFace(),
    "basket_softmax.curricularface": bs.CurricularFace(),
}


@pytest.mark.parametrize("name", OLD_NAMES)
def test_import(name: str) -> None:
    assert importlib.import_module(name) is OLD_NAMES[name]


@pytest.mark.parametrize("name", HELD)
def test_pickles_name_the_old_module(name: str) -> None:
    margin = HELD[name]
    text = pickle.dumps(margin, protocol=0)
    now = type(margin).__module__.encode()
    assert now in text
    old = pickle.loads(text.replace(now, name.encode()))
    assert type(old) is type(margin)
    assert repr(old) == repr(margin)
