"""docs/limits.md: each bound of its table that is one line of Python, at the bound and beyond."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs


@pytest.mark.parametrize(
    ("inside", "beyond", "message"),
    [
        (lambda: bs.TopK(127, 1), lambda: bs.TopK(128, 1), "128"),
        (
            lambda: bs.BasketSoftmaxLoss([128] * 128, 2, mining=bs.TopK(127, 1)),
            lambda: bs.BasketSoftmaxLoss([128] * 130, 2, mining=bs.TopK(127, 1)),
            "expected up to 16384 listed classes a row",
        ),
        (
            lambda: bs.ArcFaceLoss(9, 4, scale=1e6),
            lambda: bs.ArcFaceLoss(9, 4, scale=1.1e6),
            "scale: expected .*, got 1100000.0",
        ),
        (
            lambda: bs.ArcFaceLoss(9, 4, dtype=torch.float64),
            lambda: bs.ArcFaceLoss(9, 4, dtype=torch.bfloat16),
            "expected float32 or float64",
        ),
    ],
    ids=["k + skip", "mined classes of a row", "scale", "dtype of the centres"],
)
def test_bound(inside, beyond, message: str) -> None:
    inside()
    with pytest.raises((TypeError, ValueError), match=message):
        beyond()
