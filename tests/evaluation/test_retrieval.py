"""rank_k and mAP against scikit-learn and against a ranking written out, with excluded entries and ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from basket_softmax.evaluation import mean_average_precision, rank_k

RNG = np.random.default_rng(3)
SCORES = RNG.normal(size=(25, 60))
PROBES, GALLERY = RNG.integers(0, 9, 25), RNG.integers(0, 8, 60)  # identity 8 is in no gallery
GROUPS, GALLERY_GROUPS = RNG.integers(0, 3, 25), RNG.integers(0, 3, 60)


def test_average_precision_is_scikit_learns():
    want = [
        average_precision_score(p == GALLERY, row)
        for p, row in zip(PROBES, SCORES, strict=True)
        if (p == GALLERY).any()
    ]
    assert mean_average_precision(SCORES, PROBES, GALLERY) == pytest.approx(np.mean(want))


@pytest.mark.parametrize("k", [1, 3, 60, 100])
@pytest.mark.parametrize("groups", [False, True])
def test_rank_k_by_hand(k, groups):
    hits = []
    for i, row in enumerate(SCORES):
        keep = np.ones(60, bool)
        if groups:
            keep = ~((PROBES[i] == GALLERY) & (GROUPS[i] == GALLERY_GROUPS))
        ids = GALLERY[keep][np.argsort(-row[keep])]
        if (ids == PROBES[i]).any():
            hits.append((ids[:k] == PROBES[i]).any())
    extra = {"probe_groups": GROUPS, "gallery_groups": GALLERY_GROUPS} if groups else {}
    assert rank_k(torch.tensor(SCORES), PROBES, GALLERY, k, **extra) == pytest.approx(np.mean(hits))


def test_constant_scores_earn_nothing():
    assert rank_k(np.zeros((2, 3)), [0, 1], [0, 1, 2]) == 0.0
    assert mean_average_precision(np.zeros((1, 3)), [0], [0, 1, 2]) == pytest.approx(1 / 3)


def test_messages():
    with pytest.raises(ValueError, match=r"scores: expected shape \(2, 4\), got \(2, 3\)"):
        rank_k(np.zeros((2, 3)), [0, 1], [0, 1, 2, 3])
    with pytest.raises(ValueError, match="k: expected a positive int, got 0"):
        rank_k(np.zeros((1, 1)), [0], [0], 0)
    with pytest.raises(ValueError, match="no probe has an entry"):
        rank_k(np.zeros((1, 1)), [0], [1])
    with pytest.raises(ValueError, match="both or none"):
        rank_k(np.zeros((1, 1)), [0], [0], probe_groups=[0])
    with pytest.raises(ValueError, match="NaN or Inf"):
        mean_average_precision(np.full((1, 1), np.nan), [0], [0])
