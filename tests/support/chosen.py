"""Which cases of a product of parameters run every time; the others are marked `exhaustive`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from allpairspy import AllPairs


def pairwise(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize over the product; any two values of two axes meet in a case that runs every time."""
    return _parametrize(axes, 2)


def each(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize over the product; each value of an axis is in a case that runs every time."""
    return _parametrize(axes, 1)


def _parametrize(axes: dict[str, Iterable[Any]], together: int) -> pytest.MarkDecorator:
    values = [list(axis) for axis in axes.values()]
    places = [range(len(axis)) for axis in values]
    every_time = {tuple(case) for case in AllPairs([list(p) for p in places], n=together)}
    cases = [
        pytest.param(
            *(axis[n] for axis, n in zip(values, case, strict=True)),
            id="-".join(
                getattr(axis[n], "__name__", str(axis[n])) for axis, n in zip(values, case, strict=True)
            ),
            marks=() if case in every_time else pytest.mark.exhaustive,
        )
        for case in product(*places)
    ]
    return pytest.mark.parametrize(tuple(axes), cases)
