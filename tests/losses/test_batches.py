"""What a batch may look like: local labels, ignored rows, no rows, zero weights, and messages for what it may not."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

from .heads import WIDTH, batch, head


def test_local_labels_are_global_labels():
    loss = head(bs.TopK(k=5))
    x, labels = batch()
    local = loss.baskets.to_local(labels)
    assert torch.equal(loss(x, labels), loss(x, local.labels, basket=local.basket.clamp_min(0)))


@pytest.mark.parametrize("basket", [2, "b"])
def test_one_basket_for_the_batch(basket):
    loss = head(bs.TopK(k=5))
    x = batch()[0][:4]
    labels = torch.tensor([0, 30, -1, 5])
    assert torch.equal(loss(x, labels, basket=basket), loss(x, torch.where(labels < 0, labels, labels + 17)))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_rows_ignored_is_zero_and_attached(reduction):
    loss = head(bs.TopK(k=5), reduction=reduction)
    x = batch()[0]
    value = loss(x, torch.full((23,), -1))
    value.backward()
    assert value.item() == 0.0
    assert not x.grad.any()
    assert not loss.weight.grad.any()


def test_weights_that_sum_to_zero():
    loss = head()
    x, labels = batch()
    value = loss(x, labels, sample_weight=torch.zeros(23))
    value.backward()
    assert value.item() == 0.0
    assert not x.grad.any()


def test_nan_weight_of_an_ignored_row_is_not_read():
    loss = head()
    x, labels = batch()
    weight = torch.where(labels < 0, torch.nan, 1.0).double()
    assert torch.equal(loss(x, labels, sample_weight=weight), loss(x, labels))


def test_empty_batch():
    loss = head(bs.TopK(k=5))
    value = loss(
        torch.zeros(0, WIDTH, dtype=torch.float64, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    )
    assert value.item() == 0.0


def test_messages():
    loss = head()
    x, labels = batch()
    cases = [
        ((x[:, :5], labels), {}, ValueError, r"embeddings: expected shape \[B, 13\], got \(23, 5\)"),
        ((x, labels[:4]), {}, ValueError, r"labels: expected shape \(23,\), got \(4,\)"),
        (
            (x, labels.float()),
            {},
            TypeError,
            "labels: expected a tensor of class indices .* got torch.float32",
        ),
        (
            (x, labels.clone().fill_(49)),
            {},
            RuntimeError,
            r"labels\[0\]: expected 0 to 48 .*, got 49",
        ),
        (
            (x.float(), labels),
            {},
            TypeError,
            "weight: expected torch.float32 with embeddings torch.float32, got torch.float64",
        ),
        (
            (x, labels.clone().fill_(17)),
            {"basket": "a"},
            ValueError,
            r"labels\[0\]: expected 0 to .* in basket 'a', .*, got 17",
        ),
        ((x, labels), {"basket": "z"}, KeyError, "basket: expected one of 'a', 'empty', 'b', 'c', got 'z'"),
        ((x, labels), {"basket": 9}, ValueError, "basket: expected 0 to 3, got 9"),
        (
            (x, labels),
            {"sample_weight": torch.ones(3)},
            ValueError,
            r"sample_weight: expected shape .*, got \(3,\)",
        ),
    ]
    for arguments, options, error, message in cases:
        with pytest.raises(error, match=message):
            loss(*arguments, **options)


def test_constructor_messages():
    cases = [
        ({"baskets": []}, ValueError, "baskets: expected at least one basket, got none"),
        ({"baskets": {"a": -1}}, ValueError, r"baskets\['a'\]: expected an int from 0, got -1"),
        ({"embedding_size": 0}, ValueError, "embedding_size: expected a positive int, got 0"),
        ({"scale": 0.0}, ValueError, r"scale: expected a number above 0, up to 1e\+06, got 0\.0"),
        ({"margin": 0.5}, TypeError, "margin: expected a callable"),
        ({"mining": "topk"}, TypeError, r"mining: expected All\(\), Own\(\), Below\(guard\) or TopK"),
        ({"reduction": "avg"}, ValueError, "reduction: expected one of 'mean', 'sum', 'none', got 'avg'"),
        ({"sample_rate": 0.0}, ValueError, r"sample_rate: expected a number in \(0, 1\], got 0.0"),
        (
            {"aliases": torch.zeros(3, dtype=torch.int64)},
            ValueError,
            r"aliases: expected shape \(5,\), got \(3,\)",
        ),
        ({"aliases": torch.zeros(5)}, TypeError, "aliases: expected an int64 tensor"),
        ({"dtype": torch.float16}, TypeError, "dtype: expected float32 or float64, got torch.float16"),
    ]
    for changed, error, message in cases:
        with pytest.raises(error, match=message):
            bs.BasketSoftmaxLoss(**{"baskets": [5], "embedding_size": 3, **changed})


def test_a_rule_that_lists_too_much_is_named():
    with pytest.raises(ValueError, match=r"mining: expected up to 16384 listed classes a row, got 20000"):
        bs.BasketSoftmaxLoss([200] * 200, 3, mining=bs.TopK(k=100))
