"""Problems for the CUDA kernels: odd shapes, planted ties and positives, and everything that can go wrong in a row."""

from __future__ import annotations

import numpy as np
from executor import round_to
from oracle import Problem

ARCHS = [80, 86, 90, 120]  # 99 KB of shared memory, 163 KB and 227 KB
SMALLEST = {
    "one": (1, [1]), "two": (1, [1, 1]), "single-basket": (3, [5]), "tile+1": (2, [129, 1]),
}  # fmt: skip


def offsets_of(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def planted(
    operand: str, rows: int, dim: int, sizes: list[int], seed: int = 0, subcenters: int = 1, **rule
) -> Problem:
    """Rows near a centre of their class, centres repeated in the next basket, a few ignored rows: nothing is flat."""
    rng = np.random.default_rng(seed)
    offsets = offsets_of(sizes)
    centres = offsets[-1] * subcenters
    w = rng.standard_normal((centres, dim))
    labels = rng.integers(0, offsets[-1], rows)
    for j in range(0, centres - 1, 7):  # exact duplicates: ties
        w[j + 1] = w[j]
    for j in range(3, centres, 11):  # near duplicates far away: the same person in another basket
        other = (j + centres // 2) % centres
        w[other] = w[j] + 0.1 * rng.standard_normal(dim)
    own = labels * subcenters
    if subcenters > 1:
        own = own + rng.integers(0, subcenters, rows)
    x = 0.7 * w[own] + rng.standard_normal((rows, dim))
    x[0] = w[own[0]]  # a cosine of 1
    if rows > 2:
        x[2] = -2.0 * w[own[2]]  # and of -1
    if rows > 4:
        labels[4] = -1
    return Problem(round_to(operand, x), round_to(operand, w), labels, offsets, subcenters=subcenters, **rule)


def dyadic(
    operand: str, rows: int, dim: int, sizes: list[int], seed: int = 0, subcenters: int = 1, **rule
) -> Problem:
    """Values in {-1, 0, 1}, every norm a power of two: all cosines are exact, so ties are ties, order is total."""
    assert dim >= 16, "sixteen entries of +-1 make a norm of 4"
    rng = np.random.default_rng(seed)
    offsets = offsets_of(sizes)

    def draw(n: int) -> np.ndarray:
        v = np.zeros((n, dim))
        for row in v:
            row[rng.choice(dim, 16, replace=False)] = rng.choice([-1.0, 1.0], 16)
        return v

    labels = rng.integers(0, offsets[-1], rows)
    return Problem(draw(rows), draw(offsets[-1] * subcenters), labels, offsets, subcenters=subcenters, **rule)


def with_aliases(p: Problem, identities: int, seed: int = 1) -> Problem:
    """Classes with identities shared over baskets and inside them; a third have none."""
    rng = np.random.default_rng(seed)
    count = p.classes
    p.aliases = np.where(rng.random(count) < 0.33, -1, rng.integers(0, identities, count) * 10**12)
    return p


def nan_row(operand: str, **rule) -> Problem:
    p = planted(operand, 20, 40, [50, 90], **rule)
    p.x[7] = np.nan
    p.x[9, 3] = np.inf
    return p


def nan_class(operand: str, **rule) -> Problem:
    """A centre of class 60, of the second basket: under `own` only that basket's rows may see it."""
    p = planted(operand, 20, 40, [50, 90], **rule)
    p.labels[p.labels == 60] = 61
    p.w[60 * p.subcenters, 5] = np.nan
    return p


def nan_beside_a_basket(operand: str, bad: int, sizes: tuple[int, int] = (50, 86), **rule) -> Problem:
    """Centre 49 or 50, the last of the first basket or the first of the second, and rows of both: by columns they share
    a 16-byte chunk."""
    p = planted(operand, 20, 40, list(sizes), **rule)
    p.labels = np.where(np.arange(20) < 10, np.arange(20), 60 + np.arange(20))
    p.w[bad, 5] = np.nan
    return p


def zeros_and_extremes(operand: str, **rule) -> Problem:
    p = planted(operand, 16, 48, [40, 70], **rule)
    p.x[1] = 0.0
    p.w[p.labels[5]] = 0.0
    p.w[3] *= 2.0**-8
    p.x[6] *= 2.0**6
    if operand not in ("fp16",):
        p.x[8] *= 2.0**50
        p.w[10] *= 2.0**-30
        p.x[10] *= 2.0**80  # its squared norm overflows fp32
        p.w[12] *= 2.0**-60  # below 1e-12
    return p


def bad_label(operand: str, **rule) -> Problem:
    p = planted(operand, 12, 32, [30, 40], **rule)
    p.labels[5], p.labels[6] = 70, -7
    return p


TROUBLED = [nan_row, nan_class, zeros_and_extremes, bad_label]
