"""Baskets: names, sizes, and labels to global classes and back."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import basket_softmax as bs
from basket_softmax import Baskets

NAMED = Baskets({"web": 3, "none": 0, "glint": 5})


def test_value_object() -> None:
    assert Baskets(NAMED) == NAMED == copy.deepcopy(NAMED) == pickle.loads(pickle.dumps(NAMED))
    assert hash(Baskets(NAMED)) == hash(NAMED)
    assert Baskets([3, 0, 5]) != NAMED
    assert eval(repr(NAMED)) == NAMED


def test_one_basket_for_the_batch() -> None:
    labels = torch.tensor([0, 4, -1])
    assert NAMED.to_global(labels, "glint").tolist() == [3, 7, -1]
    assert NAMED.to_global(labels, 2).tolist() == [3, 7, -1]


def test_ignore_index_is_kept() -> None:
    assert NAMED.to_global(torch.tensor([255, 2]), torch.tensor([9, 2]), ignore_index=255).tolist() == [
        255,
        5,
    ]
    local = NAMED.to_local(torch.tensor([255, 5]), ignore_index=255)
    assert local.labels.tolist() == [255, 2]
    assert local.basket.tolist() == [-1, 2]


def test_an_ignore_index_that_is_a_class_is_refused() -> None:
    """Row 1 of "glint" with ignore_index=4 is class 4: it was dropped without a word."""
    expected = "ignore_index: expected a number below 0 or from 8, the number of classes, got"
    with pytest.raises(ValueError, match=f"{expected} 4, which is a class"):
        NAMED.to_global(torch.tensor([1, 2]), "glint", ignore_index=4)
    with pytest.raises(ValueError, match=f"{expected} 4, which is a class"):
        NAMED.to_local(torch.tensor([1, 2]), ignore_index=4)
    with pytest.raises(ValueError, match=f"{expected} 0, which is a class"):
        bs.BasketSoftmaxLoss(NAMED, 4, ignore_index=0)
    head = bs.BasketSoftmaxLoss(NAMED, 4, ignore_index=8, reduction="none")
    rows = head(torch.randn(3, 4), torch.tensor([8, 0, 2]), basket="web")
    assert rows[0] == 0
    assert (rows[1:] > 0).all()
    with pytest.raises(ValueError, match=r"ignore_index: expected .*, got 8, which is a class"):
        head.add_basket("new", 2)
    assert head.num_classes == 8


def test_a_wrong_label_is_never_the_ignored_one() -> None:
    """C marks a class that does not exist, where nothing may wait for values; ignore_index may be C."""
    marked = NAMED.global_or_none(torch.tensor([8, 3]), 0, ignore_index=8)
    assert marked.tolist() == [8, 9]


def test_compiled_form_marks_a_wrong_label_instead_of_raising() -> None:
    """Nothing may wait for values there; the loss then reports a class that does not exist."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda labels, basket: NAMED.to_global(labels, basket), fullgraph=True, backend="aot_eager"
    )
    got = compiled(torch.tensor([0, 3, 1, 2]), torch.tensor([0, 0, 2, 7]))
    assert got.tolist() == [0, 8, 4, 8]
