"""Prototypes of baskets with a known truth: people as directions, classes as noisy views of them."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor


def people(
    sizes: tuple[int, ...],
    overlap: float,
    *,
    depth: int = 32,
    noise: float = 0.7,
    domain: float = 0.3,
    seed: int = 0,
) -> tuple[Tensor, list[int], np.ndarray]:
    """[C, D] prototypes, offsets, and [C] who each class is.

    Args:
        sizes: classes of each basket.
        overlap: share of the smallest basket's people that are in all baskets; the others are in one.
        depth: D.
        noise: of a class around its person, relative to the person's length.
        domain: length of the direction that the classes of a basket share, relative to a person's.
        seed: of all.
    """
    rng = np.random.default_rng(seed)
    shared = round(overlap * min(sizes))
    first = shared + np.r_[0, np.cumsum([size - shared for size in sizes])]
    who = [np.r_[0:shared, first[b] : first[b + 1]] for b in range(len(sizes))]
    x = rng.standard_normal((first[-1], depth))[np.concatenate(who)]
    x += noise * rng.standard_normal(x.shape)
    x += domain * np.repeat(rng.standard_normal((len(sizes), depth)), sizes, axis=0)
    return torch.from_numpy(x).float(), [0, *accumulate(sizes)], np.concatenate(who)
