"""roc against scikit-learn and against counting, with ties and few pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from basket_softmax.evaluation import roc


def pairs(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=300)
    scores = np.round(scores, 1) if ties else scores
    return scores, rng.random(300) < 1 / (1 + np.exp(-2 * scores))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_same_curve_as_scikit_learn(seed, ties):
    scores, same = pairs(seed, ties)
    curve = roc(scores, same)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.far, far)
    np.testing.assert_allclose(curve.tar, tar)
    assert curve.area() == pytest.approx(roc_auc_score(same, scores))


@pytest.mark.parametrize("far", [0.0, 1e-3, 0.05, 0.5, 1.0])
def test_tar_is_the_best_threshold_by_counting(far):
    scores, same = pairs(9, ties=True)
    best = 0.0
    for threshold in [np.inf, *np.unique(scores)]:
        accepted = scores >= threshold
        if (accepted & ~same).sum() <= far * (~same).sum():
            best = max(best, (accepted & same).sum() / same.sum())
    assert roc(torch.tensor(scores), torch.tensor(same)).tar_at(far) == pytest.approx(best)
    assert roc(scores, same).tar_at(far) == pytest.approx(best)


def test_messages():
    with pytest.raises(ValueError, match="same: expected one value per score, 3, got 2"):
        roc([1.0, 2.0, 3.0], [True, False])
    with pytest.raises(ValueError, match="scores: expected numbers, got NaN"):
        roc([1.0, float("nan")], [True, False])
    with pytest.raises(ValueError, match="same: expected at least one pair of each kind, got 2 of 2 marked"):
        roc([1.0, 2.0], [True, True])
    with pytest.raises(ValueError, match=r"far: expected a number in \[0, 1\], got 2.0"):
        roc([1.0, 2.0], [True, False]).tar_at(2.0)
