"""Disjoint sets against a plain partition, for any sequence of merges."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from basket_softmax.matching.disjoint_sets import DisjointSets, aliases_of

CLASSES = 9
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), max_size=20)


def partition(pairs):
    sets = [{c} for c in range(CLASSES)]
    for a, b in pairs:
        one, other = (next(s for s in sets if c in s) for c in (a, b))
        if one is not other:
            sets.remove(other)
            one |= other
    return sets


@given(PAIRS)
def test_any_merges_give_the_partition(pairs):
    mine = DisjointSets()
    for a, b in pairs:
        assert mine.join(a, b) == mine.root(a) == mine.root(b)
    want = partition(pairs)
    assert mine.sets() == sorted(sorted(s) for s in want if len(s) > 1)
    for c in range(CLASSES):
        (own,) = (s for s in want if c in s)
        assert set(mine.members(c)) == own
        assert [mine.joined(c, other) for other in range(CLASSES)] == [
            other in own for other in range(CLASSES)
        ]


def test_aliases_number_the_groups():
    aliases = aliases_of(5, [(7, [0, 3]), (2, [4])])
    assert aliases.dtype == torch.int64
    assert aliases.tolist() == [7, -1, -1, 7, 2]
