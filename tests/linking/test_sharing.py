"""Exchanged labels: another class of the same identity, as often as asked, the same for the same generator."""

from __future__ import annotations

import pytest
import torch

from basket_softmax.linking.sharing import SharedLabels

ALIASES = torch.tensor([4, -1, 4, 7, 4, 7, -1, 9])  # 0, 2, 4 are one; 3, 5 are one; 9 is alone


def draw(labels, probability, seed=0):
    return SharedLabels(ALIASES).draw(labels, probability, torch.Generator().manual_seed(seed))


def test_everybody_else_of_the_identity_equally_often():
    labels = torch.zeros(30_000, dtype=torch.int64)
    got = draw(labels, 0.6)
    shares = torch.bincount(got, minlength=8) / len(labels)
    torch.testing.assert_close(shares, torch.tensor([0.4, 0, 0.3, 0, 0.3, 0, 0, 0]), rtol=0, atol=0.012)


def test_who_is_alone_or_no_class_stays():
    labels = torch.tensor([1, 6, 7, -1, 8, 100, -100]).repeat(50)
    assert torch.equal(draw(labels, 1.0), labels)


@pytest.mark.parametrize(("probability", "change"), [(0.0, False), (1.0, True)])
def test_never_and_always(probability, change):
    labels = torch.tensor([0, 2, 3, 4, 5]).repeat(40)
    got = draw(labels, probability)
    assert ((got != labels) == change).all()
    assert torch.equal(ALIASES[got], ALIASES[labels])


def test_the_generator_decides():
    labels = torch.arange(8).repeat(20)
    assert torch.equal(draw(labels, 0.5, 1), draw(labels, 0.5, 1))
    assert not torch.equal(draw(labels, 0.5, 1), draw(labels, 0.5, 2))


def test_nobody_linked():
    alone = SharedLabels(torch.full((5,), -1))
    labels = torch.arange(5)
    assert torch.equal(alone.draw(labels, 1.0, torch.Generator()), labels)
