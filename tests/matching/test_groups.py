"""Identities from pairs: the most similar first, and never two classes of one basket."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basket_softmax.matching import Groups

OFFSETS = torch.tensor([0, 4, 4, 7, 12])


ANYONE = torch.ones(12, 1)  # everybody is like everybody


def joined(pairs, known=None, directions=ANYONE, minimum=0.5):
    groups = Groups(OFFSETS, directions, known)
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    groups.join(table[:, 0], table[:, 1], minimum)
    return groups.aliases().tolist()


def test_pairs_chain_to_one_identity():
    aliases = joined([(1, 5), (5, 8)])
    assert [aliases[c] for c in (1, 5, 8)] == [1, 1, 1]
    assert sum(a >= 0 for a in aliases) == 3


def test_the_later_pair_that_breaks_a_basket_is_dropped():
    aliases = joined([(1, 5), (2, 8), (5, 8)])  # 5 - 8 would bring 1 and 2 together
    assert aliases[1] == aliases[5] == 1
    assert aliases[2] == aliases[8] == 2


def test_known_identities_hold_even_within_a_basket():
    known = torch.full((12,), -1)
    known[[0, 1, 4]] = 9
    aliases = joined([(1, 8), (2, 4)], known)
    assert [aliases[c] for c in (0, 1, 4, 8)] == [0, 0, 0, 0]
    assert aliases[2] == -1


def test_one_pair_alone_does_not_chain():
    """0, 5 and 8 at 0, 30 and 60 degrees: 8 is near 5 (0.87), and to both of the group 0.68 on average."""
    angle = torch.deg2rad(torch.tensor([0.0, 30.0, 60.0]))
    directions = torch.zeros(12, 2)
    directions[[0, 5, 8]] = torch.stack([angle.cos(), angle.sin()], 1)
    apart = joined([(0, 5), (5, 8)], directions=directions, minimum=0.70)
    assert [apart[c] for c in (0, 5, 8)] == [0, 0, -1]
    together = joined([(0, 5), (5, 8)], directions=directions, minimum=0.66)
    assert [together[c] for c in (0, 5, 8)] == [0, 0, 0]


def test_the_mean_counts_every_class_of_both_sides():
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(12, 4, generator=draw) + 1.0
    unit = torch.nn.functional.normalize(directions)
    mean = float((unit[[0, 4]] @ unit[[7, 5]].t()).mean())
    pairs = [(0, 4), (5, 7), (4, 7)]
    baskets_apart = torch.tensor([0, 4, 5, 7, 12])  # 4, 5 and 7 in three baskets
    for minimum, together in ((mean - 1e-4, True), (mean + 1e-4, False)):
        groups = Groups(baskets_apart, directions)
        first, second = torch.tensor(pairs).t()
        groups.join(first[:2], second[:2], -1.0)
        groups.join(first[2:], second[2:], minimum)
        aliases = groups.aliases()
        assert (aliases[7] == aliases[0]) == together


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_against_sets(pairs):
    """The same rule written with Python's sets."""
    basket = [0] * 4 + [2] * 3 + [3] * 5
    pairs = [(a, b) for a, b in pairs if basket[a] != basket[b]]
    sets = [{c} for c in range(12)]
    for a, b in pairs:
        of_a, of_b = (next(s for s in sets if c in s) for c in (a, b))
        together = [basket[c] for c in of_a | of_b]
        if of_a is not of_b and len(set(together)) == len(together):
            sets = [s for s in sets if s is not of_a and s is not of_b] + [of_a | of_b]
    want = [-1] * 12
    for c in itertools.chain.from_iterable(s for s in sets if len(s) > 1):
        want[c] = min(next(s for s in sets if c in s))
    assert joined(pairs) == want
