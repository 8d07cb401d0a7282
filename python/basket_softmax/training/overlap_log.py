"""Overlap candidates while training: how many classes of each basket may be someone of another basket.

Two classes of different baskets are a candidate when each is the other's nearest, by the cosine of their centres, and
that cosine is large; of sub-centres the nearest count. `bbs overlaps` looks at the same pairs more closely.
"""

from __future__ import annotations

import torch

from ..losses import BasketSoftmaxLoss
from ..overlaps import mutual_nearest
from .ranks import Ranks


def overlap_candidates(head: BasketSoftmaxLoss, minimum: float, ranks: Ranks) -> dict[str, int]:
    """{"pairs", "candidates/<basket>", …}: pairs, and classes of each basket that are in one; empty but on rank 0.

    Every rank calls it, and holds all centres meanwhile.

    Args:
        minimum: cosine from which a pair counts.
    """
    baskets = head.baskets
    centres = head.full_weight().cpu()
    if not ranks.first:
        return {}
    pairs = mutual_nearest(centres, baskets, minimum=minimum, subcenters=head.subcenters)
    classes = torch.unique(torch.cat([pairs.first, pairs.second]))
    counts = torch.bincount(baskets.to_local(classes).basket, minlength=len(baskets)).tolist()
    each = {f"candidates/{name}": count for name, count in zip(baskets.names, counts, strict=True)}
    return {"pairs": len(pairs.cosine), **each}
