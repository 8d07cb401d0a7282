"""ClassMeans: first centres of a new basket, from sums that grow batch by batch."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from losses.planted import planted

SIZE, WIDTH = 7, 24


def data(rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 5 has no sample; norms lie decades apart."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, SIZE - 1, (rows,), generator=draw)
    labels = torch.where(labels == 5, 6, labels)
    x = torch.randn(rows, WIDTH, generator=draw) + 3 * torch.randn(SIZE, WIDTH, generator=draw)[labels]
    return x * torch.logspace(-2, 3, rows)[:, None], labels


def expected(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(x.double())
    means = torch.stack([unit[labels == c].sum(0) for c in range(SIZE)])
    return torch.nn.functional.normalize(means) * 0.01 * WIDTH**0.5


def test_the_mean_direction_of_each_class() -> None:
    head, _ = planted()
    x, labels = data()
    means = bs.ClassMeans(head, SIZE)
    for part in range(0, 60, 13):
        means.update(x[part : part + 13], labels[part : part + 13])
    old = head.full_weight()
    head.add_basket("new", SIZE, init=means)
    seen = labels.unique()
    torch.testing.assert_close(head.weight[97:][seen].double(), expected(x, labels)[seen])
    assert torch.equal(head.weight[:97], old)
    assert means.counts.tolist() == torch.bincount(labels, minlength=SIZE).tolist()


def test_a_class_without_samples_is_drawn() -> None:
    head, _ = planted()
    means = bs.ClassMeans(head, SIZE)
    means.update(*data())
    head.add_basket("new", SIZE, init=means)
    assert 0.1 < head.weight[97 + 5].norm() / (0.01 * WIDTH**0.5) < 3
    assert head.weight.isfinite().all()


def test_opposed_samples_have_no_direction() -> None:
    head, _ = planted()
    means = bs.ClassMeans(head, 1)
    x = torch.ones(1, WIDTH)
    means.update(torch.cat([x, -x]), torch.zeros(2, dtype=torch.int64))
    head.add_basket("new", 1, init=means)
    assert head.weight.isfinite().all()
    assert (head.weight[-1] != 0).all()


def test_rows_that_say_nothing_are_left_out() -> None:
    head, _ = planted()
    x, labels = data()
    clean, noisy = bs.ClassMeans(head, SIZE), bs.ClassMeans(head, SIZE)
    clean.update(x, labels)
    bad = torch.stack([torch.zeros(WIDTH), torch.full((WIDTH,), torch.nan), torch.full((WIDTH,), torch.inf)])
    noisy.update(torch.cat([x, bad, x[:1]]), torch.cat([labels, torch.tensor([0, 1, 2, -1])]))
    assert torch.equal(noisy.counts, clean.counts)
    assert torch.equal(noisy.rows(torch.zeros(SIZE, WIDTH)), clean.rows(torch.zeros(SIZE, WIDTH)))


def test_half_precision_embeddings_and_no_graph() -> None:
    head, _ = planted()
    means = bs.ClassMeans(head, SIZE)
    x, labels = data()
    means.update((x / 100).half().requires_grad_(), labels)
    assert means.rows(torch.zeros(SIZE, WIDTH)).dtype == torch.float32
    assert not means.rows(torch.zeros(SIZE, WIDTH)).requires_grad


def test_refused() -> None:
    head, _ = planted()
    means = bs.ClassMeans(head, SIZE)
    with pytest.raises(ValueError, match="labels: expected 0 to 6 or -1, got 7"):
        means.update(torch.ones(1, WIDTH), torch.tensor([SIZE]))
    with pytest.raises(ValueError, match=r"embeddings, labels: expected shapes \[B, 24\] and \[B\], got "):
        means.update(torch.ones(1, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match="size: expected an int >= 0, got -1"):
        bs.ClassMeans(head, -1)
    with pytest.raises(
        ValueError, match="init: expected a ClassMeans of 8 classes beside 97, got one of 7 beside 97"
    ):
        head.add_basket("new", 8, init=means)
    head.add_basket("other", 3)
    with pytest.raises(
        ValueError, match="init: expected a ClassMeans of 7 classes beside 100, got one of 7 beside 97"
    ):
        head.add_basket("new", SIZE, init=means)
    with pytest.raises(ValueError, match=r"init: expected 'random', a tensor .*, got None"):
        head.add_basket("new", SIZE, init=None)
