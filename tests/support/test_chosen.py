"""The choice of cases that run every time covers what it says."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from support.chosen import each, first, pairwise

AXES = {"kind": "abcdef", "rule": "wxyz", "layout": "rc", "one": "1"}


def cases(mark: pytest.MarkDecorator) -> tuple[list[tuple], list[tuple]]:
    """Those that run every time, and all."""
    _, parameters = mark.args
    return [tuple(p.values) for p in parameters if not p.marks], [tuple(p.values) for p in parameters]


@pytest.mark.parametrize("choose", [pairwise, each])
def test_the_whole_product_is_there_once(choose) -> None:
    fast, every = cases(choose(**AXES))
    assert every == list(product(*AXES.values()))
    assert len(fast) == len(set(fast)) < len(every)


def test_pairwise_has_every_pair() -> None:
    fast, _ = cases(pairwise(**AXES))
    for a, b in combinations(range(len(AXES)), 2):
        wanted = set(product(list(AXES.values())[a], list(AXES.values())[b]))
        assert {(case[a], case[b]) for case in fast} == wanted


def test_each_has_every_value_and_mixes_them() -> None:
    fast, _ = cases(each(**AXES))
    assert len(fast) == 6
    for values, seen in zip(AXES.values(), zip(*fast, strict=True), strict=True):
        assert set(seen) == set(values)
    twelve, _ = cases(each(of=range(12), rule=range(4), layout=range(2)))
    assert len({case[1:] for case in twelve}) == 8


def test_first() -> None:
    assert cases(first(1, kind="abc")) == ([("a",)], [("a",), ("b",), ("c",)])
