"""The confidence on planted truth: what it claims is true, with and without overlap, at equal and unequal sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from basket_softmax.matching.search import neighbours
from basket_softmax.overlaps import NoConfidence, find_overlaps, mutual_nearest
from basket_softmax.overlaps.confidence import Chance, chance, confidence
from overlaps.people import people


def found(*arguments, **options):
    x, offsets, who = people(*arguments, **options)
    overlaps = find_overlaps(x, offsets)
    return overlaps, who[overlaps.first] == who[overlaps.second]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("overlap", "noise", "recall"), [(0.3, 0.5, 0.55), (0.9, 0.5, 0.6), (0.9, 0.8, 0.0)])
def test_sure_pairs_are_true(overlap, noise, recall, seed):
    overlaps, true = found((600, 500, 400), overlap, noise=noise, seed=seed)
    sure = overlaps.confidence >= 0.9
    everyone = round(overlap * 400) * 3
    assert true[sure].sum() >= recall * everyone
    assert np.sum(~true[sure]) <= 0.1 * sure.sum() + 3
    # Over all pairs: no more overlaps are claimed than there are.
    assert overlaps.confidence.sum() <= 1.05 * true.sum() + 10


@pytest.mark.parametrize("sizes", [(600, 500, 400), (2000, 200), (300, 300)])
def test_where_nobody_is_shared_no_pair_is_sure(sizes):
    overlaps, true = found(sizes, 0.0, seed=1)
    assert len(true) > 100
    assert not true.any()
    assert (overlaps.confidence < 0.8).all()
    assert overlaps.confidence.sum() < 20


def test_rises_with_the_cosine_and_lists_every_mutual_pair():
    x, offsets, _ = people((300, 200, 100), 0.5)
    overlaps, pairs = find_overlaps(x, offsets), mutual_nearest(x, offsets)
    assert np.array_equal(overlaps.first, pairs.first)
    assert np.array_equal(overlaps.second, pairs.second)
    assert np.array_equal(overlaps.cosine, pairs.cosine)
    assert (np.diff(overlaps.confidence) <= 0).all()
    assert (overlaps.confidence >= 0).all()
    assert (overlaps.confidence < 1).all()
    some = overlaps.select(overlaps.confidence > 0.5)
    assert 0 < len(some.first) < len(overlaps.first)


def test_chance_is_moved_to_where_neighbours_across_baskets_lie():
    """A direction that the classes of a basket share brings them together: across baskets chance is smaller."""
    x, offsets, _ = people((400, 400), 0.0, domain=1.0, seed=3)
    within, across = list(neighbours(x, offsets, within=True)), list(neighbours(x, offsets))
    null = chance(within, across, (400, 400))
    raw = np.concatenate([one.pairs.cosine.numpy() for one in within])
    false = across[0].pairs.cosine.numpy()
    assert null.shift < -0.1
    assert abs(np.median(raw) - np.median(false)) > 0.1
    assert abs(np.median(null.cosine) - np.median(false)) < 0.03
    assert abs(np.quantile(null.cosine, 0.95) - np.quantile(false, 0.95)) < 0.05
    assert null.weight == pytest.approx(400 * 400 / (400 * 399))  # as many pairs across as within, nearly


def test_one_chance_pair_more_bounds_the_confidence():
    """100 found pairs above every chance pair of weight 2: 2 / 100 may be chance."""
    cosine = np.r_[np.linspace(0.9, 0.8, 100), np.linspace(0.3, 0.2, 50)]
    null = Chance(np.linspace(0.2, 0.4, 50), np.full(50, 2.0), 0.0, 1.0)
    got = confidence(cosine, null)
    assert got[:100] == pytest.approx(0.98)
    assert (got[100:] == 0).all()


def test_a_ratio_of_densities():
    """40 found pairs among 10 chance pairs of weight 1: a quarter of them is chance."""
    cosine = np.r_[np.full(1000, 0.9), np.full(40, 0.6), np.full(30, 0.1)]
    null = Chance(np.r_[np.full(10, 0.6), np.full(30, 0.1)], np.ones(40), 0.0, 1.0)
    got = confidence(cosine, null)
    assert got[1000:1040] == pytest.approx(0.75)
    assert got[:1000] == pytest.approx(1 - 1 / 1000)
    assert len(confidence(np.empty(0), null)) == 0


def test_errors_say_what_is_expected():
    with pytest.raises(ValueError, match=r"baskets of 4, 4 classes are too small .* needed are 20 of each"):
        find_overlaps(torch.randn(8, 5), [0, 4, 8])
    with pytest.raises(ValueError, match="baskets: expected at least two with classes"):
        find_overlaps(torch.randn(8, 5), [0, 8])


def test_pairs_without_a_confidence_are_not_lost():
    """Baskets that share everybody leave no neighbour that is not mutual; tiny ones leave hardly any of either."""
    x, offsets, _ = people((150, 150), 1.0, noise=0.0, domain=0.0)
    with pytest.raises(
        NoConfidence, match=r"300 of 300 nearest .* versions of one dataset, .* 0, needed are 20"
    ) as error:
        find_overlaps(x, offsets)
    found = error.value.overlaps
    assert np.array_equal(found.first + 150, found.second)
    assert len(found.first) == 150
    assert np.isnan(found.confidence).all()
    x, offsets, _ = people((6, 5), 0.6)
    with pytest.raises(NoConfidence, match="baskets of 6, 5 classes are too small") as error:
        find_overlaps(x, offsets)
    pairs = mutual_nearest(x, offsets)
    assert all(np.array_equal(a, b) for a, b in zip(error.value.overlaps[:3], pairs, strict=True))
    assert len(pairs.first) > 1


@pytest.mark.parametrize("small", [(1, 1), (1, 0), (0, 1, 1)])
def test_baskets_of_one_class_beside_others(small):
    """Two of them have no pair within either, so none stands for the pair across: no division by zero."""
    torch.manual_seed(0)
    offsets = np.cumsum([0, 200, 200, *small])
    overlaps = find_overlaps(torch.randn(int(offsets[-1]), 16), offsets.tolist())
    assert len(overlaps.first) > 20
    assert (overlaps.confidence >= 0).all()
    assert (overlaps.confidence < 1).all()
