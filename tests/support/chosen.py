"""Which cases of a product of parameters run every time; the others are marked `exhaustive`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product
from typing import Any

import pytest

from .pairwise import pairwise as pairwise_cases


def pairwise(**axes: Collection[Any]) -> pytest.MarkDecorator:
    """Parametrize over the product; any two values of two axes meet in a case that runs every time."""
    cases = pairwise_cases({name: range(len(values)) for name, values in axes.items()})
    return _parametrize(axes, ([case[name] for name in axes] for case in cases))


def each(**axes: Collection[Any]) -> pytest.MarkDecorator:
    """Parametrize over the product; each value of an axis is in a case that runs every time, as many cases as the
    longest axis has values. A shorter one starts its next round one value later, or equal ones would always meet."""
    sizes = [len(values) for values in axes.values()]
    return _parametrize(axes, ([(n + n // size) % size for size in sizes] for n in range(max(sizes))))


def first(n: int, **axis: Collection[Any]) -> pytest.MarkDecorator:
    """Parametrize over one axis; its first n values run every time."""
    return _parametrize(axis, ([at] for at in range(n)))


def _parametrize(axes: dict[str, Collection[Any]], chosen: Iterable[list[int]]) -> pytest.MarkDecorator:
    every_time = {tuple(case) for case in chosen}
    cases = []
    for case in product(*(enumerate(values) for values in axes.values())):
        places, values = zip(*case, strict=True)
        marks = () if places in every_time else pytest.mark.exhaustive
        cases.append(pytest.param(*values, id="-".join(map(_name, values)), marks=marks))
    return pytest.mark.parametrize(tuple(axes), cases)


def _name(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(_name, value))
    return getattr(value, "__name__", str(value))
