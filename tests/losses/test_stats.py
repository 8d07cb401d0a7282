"""stats(): what the last step did, as tensors without a graph."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from bbs_kernels import reference
from losses.planted import planted


def test_before_the_first_step() -> None:
    with pytest.raises(RuntimeError, match="before the first forward"):
        planted()[0].stats()


def test_means_over_the_rows_not_ignored() -> None:
    head, batch = planted(reduction="none")
    rows = head(*batch).detach()
    valid = batch.labels != -1
    stats = head.stats()
    assert stats["mean_loss"].item() == pytest.approx(rows[valid].mean().item(), rel=1e-6)
    cos = reference.target_cos(batch.x.detach(), head.weight.detach(), batch.labels)
    assert stats["mean_target_cosine"].item() == pytest.approx(cos[valid].mean().item(), abs=1e-6)
    assert not any(value.requires_grad for value in stats.values())


def test_mined_share() -> None:
    head = bs.BasketSoftmaxLoss({"a": 2, "b": 9, "none": 0}, 4, mining=bs.TopK(3, 1))
    head(torch.randn(4, 4), torch.tensor([0, 1, 5, -1]))
    # Row of b reads a: one of min(2, 3) slots is left after the skip. Rows of a read b: all three.
    assert head.stats()["mined_share"].tolist() == [0.5, 1.0, 0.0]
    head.mining = bs.TopK(3, 1, bs.Absolute(-2.0))
    head(torch.randn(4, 4), torch.tensor([0, 1, 5, -1]))
    assert head.stats()["mined_share"].tolist() == [0.0, 0.0, 0.0]
    assert head.stats()["mean_mined_cosine"] == 0


@pytest.mark.parametrize("mining", [bs.All(), bs.Own(), bs.TopK(0, 1)], ids=str)
def test_rules_without_a_mined_list(mining) -> None:
    head, batch = planted(mining)
    head(*batch)
    assert set(head.stats()) == {"mean_loss", "mean_target_cosine"}


def test_guards() -> None:
    head, batch = planted(bs.Below(bs.Absolute(0.25)))
    head(*batch)
    assert head.stats()["guard"] == 0.25
    head.mining = bs.Below(bs.Relative(0.5))
    head(*batch)
    stats = head.stats()
    assert stats["guard"].item() == pytest.approx(stats["mean_target_cosine"].item() - 0.5, abs=1e-6)
    head.mining = bs.TopK(2, 1, bs.Ema(0.5))
    head(*batch)
    stats = head.stats()
    basket = head.baskets.to_local(batch.labels).basket
    want = 0.5 * head.ema[basket[basket >= 0]].mean()
    assert stats["guard"].item() == pytest.approx(want.item(), rel=1e-6)
    assert torch.equal(stats["ema"], head.ema)
    before = stats["ema"].clone()
    head(*batch)
    head(*batch)
    assert torch.equal(stats["ema"], before)  # a snapshot, not the buffer


def test_all_rows_ignored() -> None:
    head, batch = planted()
    head(batch.x, torch.full_like(batch.labels, -1))
    assert all((value == 0).all() for value in head.stats().values())


def test_another_rule_between_step_and_stats_does_not_mix() -> None:
    head = bs.BasketSoftmaxLoss([5, 4], 8, mining=bs.TopK(2, guard=bs.Ema(0.9)))
    head(torch.randn(4, 8), torch.tensor([0, 1, 6, -1]))
    before = head.stats()
    head.mining = bs.All()
    after = head.stats()
    assert after.keys() == before.keys() - {"guard", "ema"}  # the running means went with the guard
    assert torch.equal(after["mined_share"], before["mined_share"])
