"""MixedBasketSampler: coverage, proportions, determinism, use in a DataLoader, messages."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from basket_softmax.data import MixedBasketSampler

BASKET = torch.tensor([0] * 50 + [1] * 30 + [3] * 7)  # basket 2 is empty


def test_proportional_epoch_is_a_shuffle_of_all():
    sampler = MixedBasketSampler(BASKET, 16)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 6
    assert [len(b) for b in batches] == [16] * 5 + [7]
    assert sorted(i for b in batches for i in b) == list(range(87))


def test_drop_last():
    sampler = MixedBasketSampler(BASKET, 16, drop_last=True)
    assert [len(b) for b in sampler] == [16] * 5 == [16] * len(sampler)


@pytest.mark.parametrize(
    ("weights", "rows"),
    [([1, 1, 0, 1], [6, 5, 0, 5]), ([8, 4, 0, 4], [8, 4, 0, 4]), ([1, 0, 0, 0], [16, 0, 0, 0])],
)
def test_weights_fix_the_rows_of_each_batch(weights, rows):
    for batch in MixedBasketSampler(BASKET, 16, weights):
        counts = Counter(BASKET[batch].tolist())
        assert [counts[b] for b in range(4)] == rows


def test_a_small_basket_starts_over_only_when_all_its_samples_were_used():
    sampler = MixedBasketSampler(BASKET, 10, [1, 1, 0, 3])
    counts = Counter(i for batch in sampler for i in batch if BASKET[i] == 3)
    assert len(counts) == 7
    assert max(counts.values()) - min(counts.values()) <= 1


def test_epochs_of_a_small_weight_go_on_where_the_last_one_stopped():
    """Each epoch once began with a new shuffle, so that some samples came twice long before others came once."""
    sampler = MixedBasketSampler(BASKET, 16, [1, 14, 0, 1])
    seen = Counter()
    for epoch in range(50):
        sampler.set_epoch(epoch)
        for batch in sampler:
            seen.update(batch)
        for b in (0, 1, 3):
            counts = [seen[i] for i in torch.nonzero(b == BASKET).flatten().tolist()]
            assert max(counts) - min(counts) <= 1, (epoch, b)
    assert sum(seen.values()) == 50 * 16 * len(sampler)


@pytest.mark.parametrize("weights", [None, [1, 2, 0, 3]])
def test_seed_and_epoch_decide_the_order(weights):
    first = list(MixedBasketSampler(BASKET, 16, weights, seed=3))
    again = MixedBasketSampler(BASKET, 16, weights, seed=3)
    assert list(again) == first == list(again)
    again.set_epoch(1)
    assert list(again) != first
    assert list(MixedBasketSampler(BASKET, 16, weights, seed=4)) != first


def test_in_a_data_loader():
    data = TensorDataset(torch.arange(87), BASKET)
    rows = torch.cat([index for index, _ in DataLoader(data, batch_sampler=MixedBasketSampler(BASKET, 16))])
    assert sorted(rows.tolist()) == list(range(87))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basket": [], "batch_size": 4}, r"basket: expected integers \[N\]"),
        ({"basket": [0.5], "batch_size": 4}, "basket: expected integers .*, got torch.float32"),
        ({"basket": [0, -1], "batch_size": 4}, "basket: expected values from 0, got -1"),
        ({"basket": [0, 1], "batch_size": 0}, "batch_size: expected a positive int, got 0"),
        (
            {"basket": [0, 1], "batch_size": 4, "weights": [1]},
            "weights: expected one per basket, 2, got 1",
        ),
        ({"basket": [0, 1], "batch_size": 4, "weights": [1, -1]}, "weights: expected non-negative"),
        ({"basket": [0, 2], "batch_size": 4, "weights": [1, 1, 1]}, "basket 1 has no sample"),
        (
            {"basket": [0, 1], "batch_size": 4, "weights": [1000, 1]},
            r"weights\[1\]: expected a row of basket 1 in a batch of 4, got none by 1",
        ),
        (
            {"basket": [0, 1], "batch_size": 1, "weights": [1, 1]},
            r"weights\[1\]: expected a row of basket 1 in a batch of 1, got none by 1",
        ),
        (
            {"basket": [0, 1], "batch_size": 4, "weights": [1, float("nan")]},
            "weights: expected .* positive sum",
        ),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedBasketSampler(**arguments)
