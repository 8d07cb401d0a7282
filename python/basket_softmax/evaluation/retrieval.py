"""Retrieval: the gallery ranked for each probe; rank-k and mean average precision, as re-identification counts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bbs_kernels.validate import positive_int

from .arrays import as_scores, as_vector


def rank_k(
    scores: Any,
    probe_ids: Any,
    gallery_ids: Any,
    k: int = 1,
    *,
    probe_groups: Any = None,
    gallery_groups: Any = None,
) -> float:
    """Share of probes with an entry of their identity among the k most similar of the gallery.

    Args:
        scores: [P, G] similarities.
        probe_ids, gallery_ids: [P], [G] identities.
        k: at least 1.
        probe_groups, gallery_groups: [P], [G] cameras or baskets: entries of the probe's own identity *and* group
            are left out of its ranking, as the re-identification protocol has it. Both or none.

    Returns:
        A fraction in [0, 1] over the probes that have an entry of their identity left; among equal scores an
        entry of another identity comes first, so that a constant score earns nothing.

    Raises:
        ValueError: shapes differ, a score is not finite, `k` < 1, or no probe has an entry of its identity.
    """
    k = positive_int("k", k)
    hits = [
        bool(match[:k].any())
        for match in _rankings(scores, probe_ids, gallery_ids, probe_groups, gallery_groups)
    ]
    return sum(hits) / len(hits)


def mean_average_precision(
    scores: Any,
    probe_ids: Any,
    gallery_ids: Any,
    *,
    probe_groups: Any = None,
    gallery_groups: Any = None,
) -> float:
    """Mean over the probes of the average precision of their ranking.

    Arguments, exclusions, ties and errors as for `rank_k`. The average precision of a probe is the mean, over the
    entries of its identity, of the share of hits up to that entry.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
    """
    values = []
    for match in _rankings(scores, probe_ids, gallery_ids, probe_groups, gallery_groups):
        places = torch.nonzero(match).flatten().to(torch.float64) + 1.0
        values.append(
            float((torch.arange(1, len(places) + 1, dtype=torch.float64, device="cpu") / places).mean())
        )
    return sum(values) / len(values)


def _rankings(
    scores: Any, probe_ids: Any, gallery_ids: Any, probe_groups: Any, gallery_groups: Any
) -> Iterator[Tensor]:
    """For each probe that can be found: [entries] bool, is the entry at this place of its identity."""
    probes, gallery = as_vector("probe_ids", probe_ids), as_vector("gallery_ids", gallery_ids)
    table = as_scores("scores", scores, len(probes), len(gallery))
    if (probe_groups is None) != (gallery_groups is None):
        raise ValueError(
            "probe_groups, gallery_groups: expected both or none, got "
            + ("probe_groups" if gallery_groups is None else "gallery_groups")
            + " alone"
        )
    left_out = None
    if probe_groups is not None:
        mine, theirs = as_vector("probe_groups", probe_groups), as_vector("gallery_groups", gallery_groups)
        if len(mine) != len(probes) or len(theirs) != len(gallery):
            raise ValueError(
                f"probe_groups, gallery_groups: expected {len(probes)} and {len(gallery)} values, got {len(mine)} and "
                f"{len(theirs)}"
            )
        left_out = mine, theirs
    found = False
    for i, row in enumerate(table):
        match = gallery == probes[i]
        if left_out is not None:
            keep = ~(match & (left_out[1] == left_out[0][i]))
            row, match = row[keep], match[keep]
        if not bool(match.any()):
            continue
        found = True
        strangers_first = match.to(torch.int8).sort(stable=True).indices
        yield match[strangers_first][row[strangers_first].sort(descending=True, stable=True).indices]
    if not found:
        raise ValueError("probe_ids: no probe has an entry of its identity in the gallery")
