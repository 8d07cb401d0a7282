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
        ((x[:, :5], labels), {}, ValueError, r"embeddings has shape \(23, 5\), allowed is \[B, 13\]"),
        ((x, labels[:4]), {}, ValueError, r"labels has shape \(4,\), allowed is \(23,\)"),
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
            r"labels\[0\] = 49 is out of range: allowed are 0 to 48",
        ),
        ((x.float(), labels), {}, TypeError, "weight is torch.float64 with embeddings torch.float32"),
        (
            (x, labels.clone().fill_(17)),
            {"basket": "a"},
            ValueError,
            r"labels\[0\] is 17, allowed in basket 'a' are 0",
        ),
        ((x, labels), {"basket": "z"}, KeyError, "basket 'z' is unknown, allowed are 'a', 'empty', 'b', 'c'"),
        ((x, labels), {"basket": 9}, ValueError, "basket is 9, allowed are 0 to 3"),
        ((x, labels), {"sample_weight": torch.ones(3)}, ValueError, r"sample_weight has shape \(3,\)"),
    ]
    for arguments, options, error, message in cases:
        with pytest.raises(error, match=message):
            loss(*arguments, **options)


def test_constructor_messages():
    cases = [
        ({"baskets": []}, ValueError, "baskets is empty"),
        ({"baskets": {"a": -1}}, ValueError, r"baskets\['a'\] must be >= 0, got -1"),
        ({"embedding_size": 0}, ValueError, "embedding_size is 0, allowed is a positive int"),
        ({"scale": 0.0}, ValueError, r"scale is 0\.0, allowed are values above 0, up to 1e\+06"),
        ({"margin": 0.5}, TypeError, "margin must be callable"),
        ({"mining": "topk"}, TypeError, r"mining must be All\(\), Own\(\), Below\(guard\) or TopK"),
        ({"reduction": "avg"}, ValueError, "reduction is 'avg', allowed are 'mean', 'sum', 'none'"),
        ({"sample_rate": 0.0}, ValueError, r"sample_rate is 0.0, allowed is \(0, 1\]"),
        (
            {"aliases": torch.zeros(3, dtype=torch.int64)},
            ValueError,
            r"aliases has shape \(3,\), allowed is \(5,\)",
        ),
        ({"aliases": torch.zeros(5)}, TypeError, "aliases must be an int64 tensor"),
        ({"dtype": torch.float16}, TypeError, "dtype is torch.float16, allowed are float32 and float64"),
    ]
    for changed, error, message in cases:
        with pytest.raises(error, match=message):
            bs.BasketSoftmaxLoss(**{"baskets": [5], "embedding_size": 3, **changed})


def test_a_rule_that_lists_too_much_is_named():
    with pytest.raises(ValueError, match=r"mining lists up to 20000 classes a row .* allowed are 16384"):
        bs.BasketSoftmaxLoss([200] * 200, 3, mining=bs.TopK(k=100))
