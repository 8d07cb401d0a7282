"""Label spaces side by side: there and back, empty baskets, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import basket_softmax as bs

BASKETS = bs.Baskets({"a": 3, "none": 0, "b": 5})


def test_shapes_and_names():
    assert (BASKETS.names, BASKETS.sizes, BASKETS.num_classes, len(BASKETS)) == (
        ("a", "none", "b"),
        (3, 0, 5),
        8,
        3,
    )
    assert BASKETS.offsets.tolist() == [0, 3, 3, 8]
    assert bs.Baskets([3, 5]).names == ("0", "1")
    assert bs.Baskets(BASKETS) == BASKETS
    assert bs.Baskets([3, 0, 5]) != BASKETS
    assert hash(bs.Baskets(BASKETS)) == hash(BASKETS)
    assert repr(BASKETS) == "Baskets({'a': 3, 'none': 0, 'b': 5})"


def test_there_and_back():
    labels = torch.arange(8)
    local = BASKETS.to_local(labels)
    assert local.labels.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert local.basket.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert torch.equal(BASKETS.to_global(*local), labels)


def test_ignored_labels_stay():
    local = BASKETS.to_local(torch.tensor([-1, 4]))
    assert (local.labels.tolist(), local.basket.tolist()) == ([-1, 1], [-1, 2])
    assert BASKETS.to_global(torch.tensor([-1, 2]), torch.tensor([-1, 0])).tolist() == [-1, 2]
    assert BASKETS.to_global(torch.tensor([255, 2]), "a", ignore_index=255).tolist() == [255, 2]


@pytest.mark.parametrize(
    ("labels", "basket", "error", "message"),
    [
        ([3], "a", ValueError, r"labels\[0\]: expected 0 to 2 in basket 'a', .*, got 3"),
        ([0, -2], 0, ValueError, r"labels\[1\]: expected 0 to 2 .*, got -2"),
        ([0], "none", ValueError, "expected 0 to -1 in basket 'none'"),
        ([0], "x", KeyError, "basket: expected one of .*, got 'x'"),
        ([0], 3, ValueError, "basket: expected 0 to 2, got 3"),
        ([0], torch.tensor([5]), ValueError, r"basket\[0\]: expected 0 to 2, got 5"),
        ([0], torch.tensor([0, 1]), ValueError, r"basket: expected shape \(1,\), got \(2,\)"),
        (
            [0],
            torch.tensor([0.0]),
            TypeError,
            r"basket: expected a tensor of basket indices .*, an int or a name, got torch.float32",
        ),
    ],
)
def test_messages(labels, basket, error, message):
    with pytest.raises(error, match=message):
        BASKETS.to_global(torch.tensor(labels), basket)


def test_constructor_messages():
    for baskets, error, message in [
        ("ab", TypeError, "baskets: expected a dict of name: size or a list of sizes, got 'ab'"),
        ({1: 2}, TypeError, "expected names that are strings, got 1"),
        ({"a": 2.0}, TypeError, r"baskets\['a'\]: expected an int"),
        ([-1], ValueError, r"baskets\['0'\]: expected an int from 0, got -1"),
        ({}, ValueError, "baskets: expected at least one basket, got none"),
    ]:
        with pytest.raises(error, match=message):
            bs.Baskets(baskets)


def test_sizes_may_be_numpy_integers():
    baskets = bs.Baskets({"a": np.int64(3), "b": np.int32(2)})
    assert baskets.sizes == (3, 2)
    assert all(type(size) is int for size in baskets.sizes)
    assert bs.BasketSoftmaxLoss(baskets, np.int64(8)).weight.shape == (5, 8)
