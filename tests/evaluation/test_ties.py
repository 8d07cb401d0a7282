"""Rates of roc are exact fp64 quotients of counts, whatever the input's dtype, order and ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from basket_softmax.evaluation import roc


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("levels", [1, 2, 7, 10_000])
def test_every_rate_is_the_quotient_of_its_counts(dtype, levels):
    rng = np.random.default_rng(levels)
    scores = torch.tensor(rng.integers(0, levels, 401)).to(dtype)
    same = torch.tensor(rng.random(401) < 0.3)
    curve = roc(scores, same)
    thresholds = [float("inf"), *sorted(set(scores.double().tolist()), reverse=True)]
    assert curve.threshold.tolist() == thresholds
    assert curve.far.dtype == curve.tar.dtype == torch.float64
    accepted = [scores.double() >= threshold for threshold in thresholds]
    genuine, impostors = int(same.sum()), int((~same).sum())
    assert curve.tar.tolist() == [int((a & same).sum()) / genuine for a in accepted]
    assert curve.far.tolist() == [int((a & ~same).sum()) / impostors for a in accepted]


def test_a_far_of_exactly_one_impostor_is_reached():
    """1e-3 of 1,000 impostors is one: the comparison must not lose it to rounding."""
    impostors = torch.arange(1000, dtype=torch.float64)
    curve = roc(torch.cat([impostors, torch.tensor([998.5, 997.5])]), [False] * 1000 + [True] * 2)
    assert curve.tar_at(1e-3) == 0.5
    assert curve.tar_at(2e-3) == 1.0
    assert curve.tar_at(0.0) == 0.0


def test_arguments_are_not_changed_and_their_order_does_not_matter():
    scores, same = torch.tensor([0.5, 0.5, 0.1, 0.9]), torch.tensor([True, False, False, True])
    kept = scores.clone()
    curve, other = roc(scores, same), roc(scores.flip(0), same.flip(0))
    assert torch.equal(scores, kept)
    assert all(torch.equal(a, b) for a, b in zip(curve, other, strict=True))
