"""Baskets: names, sizes, and labels to global classes and back."""

from __future__ import annotations

import copy
import pickle

import torch

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


def test_ignore_index_is_kept_even_where_it_is_a_label() -> None:
    assert NAMED.to_global(torch.tensor([1, 2]), "glint", ignore_index=1).tolist() == [1, 5]
    assert NAMED.to_global(torch.tensor([255, 2]), torch.tensor([9, 2]), ignore_index=255).tolist() == [
        255,
        5,
    ]
    local = NAMED.to_local(torch.tensor([255, 5]), ignore_index=255)
    assert local.labels.tolist() == [255, 2]
    assert local.basket.tolist() == [-1, 2]


def test_compiled_form_marks_a_wrong_label_instead_of_raising() -> None:
    """Nothing may wait for values there; the loss then reports a class that does not exist."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda labels, basket: NAMED.to_global(labels, basket), fullgraph=True, backend="aot_eager"
    )
    got = compiled(torch.tensor([0, 3, 1, 2]), torch.tensor([0, 0, 2, 7]))
    assert got.tolist() == [0, 8, 4, 8]
