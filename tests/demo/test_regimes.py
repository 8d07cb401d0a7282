"""The simulated datasets: sizes, labels, overlap, and that nothing of the test leaks into training."""

from __future__ import annotations

import numpy as np
import pytest

from basket_softmax.data import load_glyphs
from basket_softmax.demo.regimes import REGIMES, draw_training_set, with_wrong_labels
from basket_softmax.demo.rules import RULES, labels_for, make_loss


@pytest.fixture(scope="module")
def glyphs():
    return load_glyphs()


@pytest.mark.parametrize(("name", "baskets"), [("many", 14), ("style", 4)])
def test_datasets_of_a_seed(glyphs, name, baskets):
    regime = REGIMES[name]
    data = draw_training_set(glyphs, regime, 0)
    assert len(data.sizes) == baskets
    assert max(data.sizes) == regime.characters
    assert set(data.basket) == set(range(baskets))
    assert (glyphs.split[glyphs.character[data.image]] == 0).all()
    assert (regime.basket_of_font(glyphs)[glyphs.font[data.image]] == data.basket).all()
    for b, size in enumerate(data.sizes):
        mine = data.basket == b
        assert sorted(set(data.label[mine])) == list(range(size))
        # one label, one identity, within a basket
        assert len(set(zip(data.label[mine], data.identity[mine], strict=True))) == size
    again = draw_training_set(glyphs, regime, 0)
    assert all(np.array_equal(a, b) for a, b in zip(vars(data).values(), vars(again).values(), strict=True))
    assert not np.array_equal(data.identity, draw_training_set(glyphs, regime, 1).identity)


def test_identities_overlap_between_baskets(glyphs):
    data = draw_training_set(glyphs, REGIMES["many"], 0)
    baskets_of = {i: set(data.basket[data.identity == i]) for i in set(data.identity)}
    assert np.mean([len(b) > 1 for b in baskets_of.values()]) > 0.7


def test_fonts_of_a_style_are_spread_over_baskets(glyphs):
    basket = REGIMES["many"].basket_of_font(glyphs)
    assert np.bincount(basket).tolist() == [2] * 14
    for b in range(14):
        assert len(set(glyphs.style[basket == b])) == 2


@pytest.mark.parametrize("rule", RULES)
def test_labels_of_each_rule(glyphs, rule):
    regime = REGIMES["many"]
    data = draw_training_set(glyphs, regime, 0)
    loss = make_loss(rule, regime, data, 8, 16.0)
    labels = labels_for(rule, data, loss).numpy()
    assert labels.max() == loss.num_classes - 1
    if rule == "oracle":
        assert (
            loss.num_classes == len(set(data.identity)) == len(set(zip(labels, data.identity, strict=True)))
        )
    else:
        assert loss.num_classes == sum(data.sizes)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("name", REGIMES)
def test_wrong_labels_stay_in_their_basket(glyphs, name, share):
    true = draw_training_set(glyphs, REGIMES[name], 3)
    data = with_wrong_labels(true, share, 3)
    changed = data.label != true.label
    assert changed.sum() == round(share * len(true.label))
    assert (data.label >= 0).all()
    assert (data.label < np.array(true.sizes)[true.basket]).all()
    assert np.array_equal(data.image, true.image)
    assert np.array_equal(data.basket, true.basket)
    # identity is that of the label: the classes of the truth, and the wrong pictures among others
    pairs = set(zip(true.basket, true.label, true.identity, strict=True))
    assert set(zip(data.basket, data.label, data.identity, strict=True)) <= pairs
    assert np.array_equal(data.identity[~changed], true.identity[~changed])
    again = with_wrong_labels(true, share, 3)
    assert np.array_equal(again.label, data.label)
    if share == 0.2:
        assert not np.array_equal(with_wrong_labels(true, share, 4).label, data.label)


def test_wrong_labels_that_cannot_be_are_refused(glyphs):
    data = draw_training_set(glyphs, REGIMES["style"], 0)
    with pytest.raises(ValueError, match=r"share: expected a number from 0 to 1, got 1\.5"):
        with_wrong_labels(data, 1.5, 0)
