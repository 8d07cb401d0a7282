"""Baskets: names, sizes, and labels to global classes and back."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from basket_softmax import Baskets

NAMED = Baskets({"web": 3, "none": 0, "glint": 5})


def test_layout() -> None:
    assert (NAMED.names, NAMED.sizes, NAMED.num_classes, len(NAMED)) == (
        ("web", "none", "glint"),
        (3, 0, 5),
        8,
        3,
    )
    assert NAMED.offsets.tolist() == [0, 3, 3, 8]
    assert NAMED.offsets.dtype == torch.int64
    assert NAMED.index("glint") == 2
    assert Baskets([4, 2]).names == ("0", "1")
    assert Baskets(n for n in (4, 2)) == Baskets([4, 2])


def test_value_object() -> None:
    assert Baskets(NAMED) == NAMED == copy.deepcopy(NAMED) == pickle.loads(pickle.dumps(NAMED))
    assert hash(Baskets(NAMED)) == hash(NAMED)
    assert Baskets([3, 0, 5]) != NAMED
    assert eval(repr(NAMED)) == NAMED


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({}, ValueError, "baskets is empty"),
        ([], ValueError, "baskets is empty"),
        ([3, -1], ValueError, r"baskets\['1'\] must be >= 0, got -1"),
        ([3, 2.5], TypeError, r"baskets\['1'\] must be an int"),
        ([True], TypeError, "must be an int"),
        ({1: 3}, TypeError, "a name must be a string, got 1"),
        ("web", TypeError, "baskets must be a dict of name: size or a list of sizes"),
        (7, TypeError, "baskets must be a dict"),
    ],
)
def test_refused(argument, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Baskets(argument)


def test_there_and_back() -> None:
    labels, basket = torch.tensor([0, 2, 4, -1, 0]), torch.tensor([0, 0, 2, 1, 2])
    everywhere = NAMED.to_global(labels, basket)
    assert everywhere.tolist() == [0, 2, 7, -1, 3]
    local = NAMED.to_local(everywhere)
    assert local.labels.tolist() == [0, 2, 4, -1, 0]
    assert local.basket.tolist() == [0, 0, 2, -1, 2]


def test_one_basket_for_the_batch() -> None:
    labels = torch.tensor([0, 4, -1])
    assert NAMED.to_global(labels, "glint").tolist() == [3, 7, -1]
    assert NAMED.to_global(labels, 2).tolist() == [3, 7, -1]


def test_ignore_index_is_kept_even_where_it_is_a_label() -> None:
    assert NAMED.to_global(torch.tensor([1, 2]), "glint", ignore_index=1).tolist() == [1, 5]
    assert NAMED.to_global(torch.tensor([255, 2]), torch.tensor([9, 2]), ignore_index=255).tolist() == [
        255,
        5,
    ]
    local = NAMED.to_local(torch.tensor([255, 5]), ignore_index=255)
    assert local.labels.tolist() == [255, 2]
    assert local.basket.tolist() == [-1, 2]


@pytest.mark.parametrize(
    ("labels", "basket", "error", "message"),
    [
        ([0, 3], "web", ValueError, r"labels\[1\] is 3, allowed in basket 'web' are 0 to 2 and ignore_index = -1"),
        ([-2], "web", ValueError, r"labels\[0\] is -2"),
        ([0, 0], [0, 1], ValueError, r"labels\[1\] is 0, allowed in basket 'none'"),
        ([0, 0], [0, 3], ValueError, r"basket\[1\] is 3, allowed are 0 to 2"),
        ([0], 3, ValueError, "basket is 3, allowed are 0 to 2"),
        ([0], "lfw", KeyError, "basket 'lfw' is unknown, allowed are 'web', 'none', 'glint'"),
        ([0], [0, 0], ValueError, r"basket has shape \(2,\), allowed is \(1,\)"),
        ([0], [0.0], TypeError, "basket must be an int64 tensor, an int or a name, got torch.float32"),
        ([0.0], "web", TypeError, "labels must be an int64 tensor, got torch.float32"),
        ([[0]], "web", ValueError, r"labels has shape \(1, 1\), allowed is \[B\]"),
    ],
)  # fmt: skip
def test_wrong_labels(labels: list, basket, error: type[Exception], message: str) -> None:
    basket = torch.tensor(basket) if isinstance(basket, list) else basket
    with pytest.raises(error, match=message):
        NAMED.to_global(torch.tensor(labels), basket)


def test_compiled_form_marks_a_wrong_label_instead_of_raising() -> None:
    """Nothing may wait for values there; the loss then reports a class that does not exist."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda labels, basket: NAMED.to_global(labels, basket), fullgraph=True, backend="aot_eager"
    )
    got = compiled(torch.tensor([0, 3, 1, 2]), torch.tensor([0, 0, 2, 7]))
    assert got.tolist() == [0, 8, 4, 8]
