"""Data on which a softmax is not flat: planted positives, near-duplicate centres, losses from 1e-6 to 100."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Problem(NamedTuple):
    x: Tensor  # [B, D] embeddings with norms from 0.1 to 30
    w: Tensor  # [C, D] centres with norms of about 1
    labels: Tensor  # [B]


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """problem(rows, classes, size, seed, dtype): random, but the same for the same arguments."""

    def make(
        rows: int = 31, classes: int = 97, size: int = 23, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> Problem:
        rng = torch.Generator().manual_seed(seed)
        w = torch.randn(classes, size, generator=rng, dtype=torch.float64) / size**0.5
        w[1::5] = w[0::5][: len(w[1::5])] + 0.05 * torch.randn(
            w[1::5].shape, generator=rng, dtype=torch.float64
        )
        labels = torch.randint(classes, (rows,), generator=rng)
        pull = torch.linspace(-1.0, 4.0, rows, dtype=torch.float64)[
            :, None
        ]  # from opposed to well classified
        x = pull * w[labels] + torch.randn(rows, size, generator=rng, dtype=torch.float64) / size**0.5
        x = (
            x
            * torch.logspace(-1, 1.5, rows, dtype=torch.float64)[torch.randperm(rows, generator=rng)][:, None]
        )
        return Problem(x.to(dtype), w.to(dtype), labels)

    return make


@pytest.fixture
def relative_l2() -> Callable[[Tensor, Tensor], float]:
    """||got - want|| / ||want||, in fp64."""

    def error(got: Tensor, want: Tensor) -> float:
        got, want = got.detach().double(), want.detach().double()
        return float((got - want).norm() / want.norm())

    return error
