"""fold_accuracy against a plain loop over scikit-learn's folds, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from basket_softmax.evaluation import fold_accuracy


def plain(cosines, same, folds):
    """insightface's protocol as it is written there: thresholds on squared distances, folds without shuffling."""
    distance, found = 2 - 2 * cosines, []
    thresholds = np.arange(0, 4, 0.01)
    for train, test in KFold(folds).split(distance):
        accuracies = [np.mean((distance[train] < t) == same[train]) for t in thresholds]
        best = thresholds[int(np.argmax(accuracies))]
        found.append(np.mean((distance[test] < best) == same[test]))
    return found


@pytest.mark.parametrize(("pairs", "folds"), [(600, 10), (97, 10), (31, 4), (10, 10), (3, 2)])
def test_as_a_plain_loop(pairs, folds):
    rng = np.random.default_rng(pairs)
    same = rng.random(pairs) < 0.5
    cosines = np.clip(rng.normal(np.where(same, 0.5, 0.1), 0.2), -1, 1)
    got = fold_accuracy(cosines, same, folds)
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(plain(cosines, same, folds))


def test_by_hand():
    """Two folds: each is judged by the threshold of the other, the first one above 2 - 2 * 0.9 or 2 - 2 * 0.1."""
    cosines = torch.tensor([0.9, 0.2, 0.1, -0.5])
    same = torch.tensor([True, False, True, False])
    assert fold_accuracy(cosines, same, 2).tolist() == [0.5, 0.5]
    assert fold_accuracy([1.0, -1.0] * 10, [1, 0] * 10).tolist() == [1.0] * 10
    assert fold_accuracy([0.3] * 20, [1, 0] * 10).tolist() == [0.5] * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1] * 10, [1] * 9), "same: expected one value per cosine, 10, got 9"),
        (([0.1] * 9, [1] * 9), "folds: expected an int from 2 to the number of pairs, 9, got 10"),
        (([0.1] * 9, [1] * 9, 1), "folds: expected an int from 2 to .*, got 1"),
        (([float("nan")] * 10, [1] * 10), r"outside \[-1, 1\]"),
        (([1.1] * 10, [1] * 10), r"outside \[-1, 1\]"),
    ],
)
def test_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        fold_accuracy(*arguments)
