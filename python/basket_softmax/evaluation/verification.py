"""Verification: is this pair one identity? The ROC over all thresholds, and TAR at given FARs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .arrays import as_vector


class Roc(NamedTuple):
    """A receiver operating characteristic, thresholds descending.

    threshold: [T] a pair is accepted when its score >= threshold. far, tar: [T] fp64, false and true acceptance
    rates in [0, 1], non-decreasing; they start at (+inf, 0, 0) and end at (1, 1).
    """

    threshold: Tensor
    far: Tensor
    tar: Tensor

    def tar_at(self, far: float) -> float:
        """The highest TAR whose FAR is at most `far`, a fraction in [0, 1]; no interpolation."""
        if not 0.0 <= far <= 1.0:
            raise ValueError(f"far: expected a number in [0, 1], got {far}")
        return float(self.tar[torch.searchsorted(self.far, far, right=True) - 1])

    def area(self) -> float:
        """Area under the curve, ties counted half."""
        return float(torch.trapezoid(self.tar, self.far))


def roc(scores: Any, same: Any) -> Roc:
    """The curve of similarity scores of pairs.

    Args:
        scores: [P] similarities, larger is more alike; tensor, array or list.
        same: [P] bool (or 0/1): the pair is one identity.

    Returns:
        `Roc`; pairs with equal scores are accepted together, so T is the number of distinct scores + 1.

    Raises:
        ValueError: shapes differ, a score is NaN, or there is no pair of one of the two kinds.

    Source: ISO/IEC 19795-1, TAR (true acceptance) at FAR (false acceptance).
    """
    scores, same = as_vector("scores", scores).to(torch.float64), as_vector("same", same).bool()
    if scores.shape != same.shape:
        raise ValueError(f"same: expected one value per score, {len(scores)}, got {len(same)}")
    if bool(scores.isnan().any()):
        raise ValueError("scores: expected numbers, got NaN")
    genuine = int(same.sum())
    impostors = len(same) - genuine
    if genuine == 0 or impostors == 0:
        raise ValueError(
            f"same: expected at least one pair of each kind, got {genuine} of {len(same)} marked"
        )
    scores, order = scores.sort(descending=True)
    true_accepts = same[order].cumsum(0)
    del order  # with 10 million pairs each such vector is 80 MB
    last_of_tie = torch.nonzero(scores[1:] != scores[:-1]).flatten()
    last_of_tie = torch.cat([last_of_tie, torch.tensor([len(scores) - 1], device="cpu")])
    true_accepts = true_accepts[last_of_tie]
    false_accepts = last_of_tie + 1 - true_accepts  # so many pairs are accepted, these are not genuine
    far, tar = _from_zero(false_accepts.double() / impostors), _from_zero(true_accepts.double() / genuine)
    threshold = torch.cat([torch.tensor([torch.inf], dtype=torch.float64, device="cpu"), scores[last_of_tie]])
    return Roc(threshold, far, tar)


def _from_zero(rates: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), rates])
