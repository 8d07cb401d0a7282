"""Verification accuracy in folds: the figure that papers give for LFW, CFP-FP and AgeDB-30."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arrays import as_vector

STEP, STEPS = 0.01, 400  # insightface's thresholds: squared distances of unit embeddings from 0 to 4


def fold_accuracy(cosines: Any, same: Any, folds: int = 10) -> Tensor:
    """Share of right answers in each fold, at the threshold that is best on the other folds; report the mean.

    The folds are consecutive parts of the pairs, which therefore stay in the order of the published list. A pair is
    accepted when the squared distance of its unit embeddings, 2 - 2 cosine, is below the threshold, a multiple of 0.01
    as in insightface; among equally good thresholds the smallest distance counts.

    Args:
        cosines: [P] in [-1, 1]; tensor, array or list.
        same: [P] bool (or 0/1): the pair is one identity.
        folds: from 2 to P.

    Returns:
        [folds] fp64, fractions in [0, 1].

    Raises:
        ValueError: shapes differ, a cosine is not in [-1, 1], or too few pairs for the folds.

    Source: Huang et al., "Labeled Faces in the Wild", 2007 (ten folds); `calculate_roc` of insightface's verification.
    """
    cosines, same = as_vector("cosines", cosines).double(), as_vector("same", same).bool()
    if cosines.shape != same.shape:
        raise ValueError(f"same: expected one value per cosine, {len(cosines)}, got {len(same)}")
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= len(cosines):
        raise ValueError(
            f"folds: expected an int from 2 to the number of pairs, {len(cosines)}, got {folds!r}"
        )
    if not bool((cosines.abs() <= 1 + 1e-5).all()):  # rounding of fp32
        raise ValueError("cosines holds values outside [-1, 1]")
    distance = 2 - 2 * cosines.numpy()
    right = np.stack([(distance < STEP * t) == same.numpy() for t in range(STEPS)])  # [thresholds, P]
    parts = np.array_split(np.arange(len(distance)), folds)
    counts = np.stack([right[:, part].sum(1) for part in parts])  # [folds, thresholds]
    best = (counts.sum(0) - counts).argmax(1)
    found = [counts[fold, threshold] / len(parts[fold]) for fold, threshold in enumerate(best)]
    return torch.tensor(found, dtype=torch.float64)
