"""Baskets whose classes are planted: partners in other baskets, exact copies, ties, classes without a direction."""

from __future__ import annotations

from itertools import accumulate, combinations, pairwise

import numpy as np
import torch
from torch import Tensor


def centres(
    sizes: tuple[int, ...],
    depth: int,
    *,
    noise: float = 0.3,
    copies: float = 0.2,
    zeros: float = 0.0,
    common: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, list[int]]:
    """[C, D] and offsets. Classes of all baskets share a pool of identities, so most have partners.

    Args:
        sizes: classes of each basket.
        depth: D.
        noise: of a class around its identity, relative.
        copies: share of classes that are an exact copy of another one, often of the same basket: ties.
        zeros: share of classes without a direction.
        common: length of a direction that all classes share: at 30, all cosines are near 1.
    """
    rng = np.random.default_rng(seed)
    offsets = [0, *accumulate(sizes)]
    pool = rng.standard_normal((max(*sizes, 1) * 2, depth))
    identity = np.concatenate([rng.permutation(len(pool))[:size] for size in sizes])
    x = pool[identity] + noise * rng.standard_normal((offsets[-1], depth))
    x += common * rng.standard_normal(depth)
    x *= 10.0 ** rng.uniform(-3, 3, (len(x), 1))
    copied = np.flatnonzero(rng.random(len(x)) < copies)
    x[copied] = x[rng.integers(0, max(len(x), 1), len(copied))]
    x[rng.random(len(x)) < zeros] = 0.0
    return torch.from_numpy(x).to(dtype), offsets


def dense(
    x: Tensor, offsets: list[int], kind: str, minimum: float = -1.0, subcenters: int = 1
) -> dict[tuple[int, int], float]:
    """{(first, second): cosine} by the definition, from all cosines; NumPy's argmax takes the lowest index.

    Args:
        kind: "each": nearest in each other basket; "all": in all other baskets; "within": in the own basket.
        subcenters: adjacent rows of `x` for each class, of which the nearest ones count.
    """
    norms = x.double().norm(dim=1, keepdim=True)
    unit = torch.where(norms >= 1e-12, x.double() / norms.clamp_min(1e-300), 0.0)
    # One product per pair, always in the same order: a matrix product may round the same pair in two ways.
    table = (unit[:, None] * unit).sum(2).float().numpy().copy()
    nobody = ~(norms[:, 0] >= 1e-12).numpy()
    table[nobody] = table[:, nobody] = -np.inf
    classes = len(x) // subcenters
    table = table.reshape(classes, subcenters, classes, subcenters).max((1, 3))
    np.fill_diagonal(table, -np.inf)
    spans = [slice(*edges) for edges in pairwise(offsets)]
    if kind == "each":
        blocks = [(a.start, b.start, table[a, b]) for a, b in combinations(spans, 2)]
    elif kind == "within":
        blocks = [(a.start, a.start, table[a, a]) for a in spans]
    else:
        for span in spans:
            table[span, span] = -np.inf
        blocks = [(0, 0, table)]
    found = {}
    for first, second, block in blocks:
        if 0 in block.shape:
            continue
        there, back = block.argmax(1), block.argmax(0)
        for i in np.flatnonzero(back[there] == np.arange(len(block))):
            pair, cosine = (first + int(i), second + int(there[i])), float(block[i, there[i]])
            if pair[0] < pair[1] and cosine >= minimum:
                found[pair] = cosine
    return found
