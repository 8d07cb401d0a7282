"""Where a class lies among the offsets: each device gets a table once, whatever tensor it comes in."""

from __future__ import annotations

import torch

from basket_softmax import Baskets
from bbs_kernels import functional
from bbs_kernels.ops.offsets import offsets_beside

OFFSETS = torch.tensor([0, 3, 3, 8])
META = torch.device("meta")


def test_values() -> None:
    assert functional.basket_of(torch.tensor([0, 2, 3, 7, -1]), OFFSETS).tolist() == [0, 0, 2, 2, 0]
    assert functional.first_class(torch.tensor([0, 1, 2, 3]), OFFSETS).tolist() == [0, 3, 3, 8]


def test_a_device_gets_a_table_once() -> None:
    labels = torch.empty(0, dtype=torch.int64, device=META)
    table = offsets_beside(labels, OFFSETS)
    assert offsets_beside(labels, OFFSETS.clone()) is table
    assert offsets_beside(labels, torch.tensor([0, 3, 3, 9])) is not table
    assert offsets_beside(OFFSETS, OFFSETS) is OFFSETS


def test_a_table_changed_in_place_is_another_table() -> None:
    offsets = OFFSETS.clone()
    labels = torch.empty(0, dtype=torch.int64, device=META)
    before = offsets_beside(labels, offsets)
    offsets[1] = 2
    assert offsets_beside(labels, offsets) is not before
    assert functional.basket_of(torch.tensor([2]), offsets).tolist() == [1]


def test_labels_elsewhere_stay_there() -> None:
    baskets = Baskets({"a": 3, "none": 0, "b": 5})
    labels = torch.zeros(4, dtype=torch.int64, device=META)
    for got in (
        baskets.to_global(labels, "b"),
        *baskets.to_local(labels),
        functional.basket_of(labels, OFFSETS),
    ):
        assert got.device == META
        assert got.shape == labels.shape
