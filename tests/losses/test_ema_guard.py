"""The running means behind the Ema guard: loss.md's first batch mean, then 0.98 and 0.02, training mode only."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

from .heads import batch, head


def target_means(loss, x, labels) -> list[float | None]:
    """Mean target cosine of each basket's rows, None without a row."""
    cos = (loss.logits(x, slice(None)) / loss.scale).detach()
    local = loss.baskets.to_local(labels)
    rows = [torch.nonzero(local.basket == b).flatten() for b in range(len(loss.baskets))]
    return [cos[r, labels[r]].mean().item() if len(r) else None for r in rows]


def test_first_mean_then_blend_then_nothing_in_eval():
    loss = head(bs.Below(bs.Ema(0.5)))
    x, labels = batch()
    labels[labels == 48] = 0  # nobody in basket c
    loss(x, labels)
    first = target_means(loss, x, labels)
    assert loss.ema[0].item() == pytest.approx(first[0])
    assert loss.ema[2].item() == pytest.approx(first[2])
    assert loss.ema[[1, 3]].tolist() == [torch.inf, torch.inf]
    other, other_labels = batch(seed=5)
    loss(other, other_labels)
    second = target_means(loss, other, other_labels)
    assert loss.ema[0].item() == pytest.approx(0.98 * first[0] + 0.02 * second[0])
    kept = loss.ema.clone()
    loss.eval()
    loss(x, labels)
    assert torch.equal(loss.ema, kept)


def test_update_comes_before_use():
    loss = head(bs.TopK(k=9, skip=0, guard=bs.Ema(0.6)))
    x, labels = batch()
    loss(x, labels)
    after = loss.ema.clone()
    stats = loss.stats()
    frozen = head(bs.TopK(k=9, skip=0, guard=bs.Ema(0.6))).eval()
    frozen.ema.copy_(after)
    frozen(x, labels)
    assert torch.equal(frozen.stats()["mined_share"], stats["mined_share"])
    assert torch.equal(stats["ema"], after)


def test_a_broken_row_does_not_reach_the_mean():
    loss = head(bs.Below(bs.Ema(0.5)), reduction="none")
    x, labels = batch()
    broken = x.detach().clone()
    broken[1] = torch.nan
    rows = loss(broken, labels)
    keep = torch.ones(23, dtype=torch.bool)
    keep[1] = False
    other = head(bs.Below(bs.Ema(0.5)), reduction="none")
    want = other(broken[keep], labels[keep])
    assert rows[1].isnan()
    torch.testing.assert_close(loss.ema, other.ema)
    torch.testing.assert_close(rows[keep], want)


def test_unseen_basket_leaves_nothing_out():
    x, labels = batch()
    rows = torch.nonzero(labels < 17).flatten()
    guarded, free = head(bs.Below(bs.Ema(0.5))).eval(), head(bs.All()).eval()
    assert torch.equal(guarded(x[rows], labels[rows]), free(x[rows], labels[rows]))
