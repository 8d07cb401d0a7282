"""The attribute `distance` of a loss: CosineSimilarity, which is what the kernels compute, and nothing else.

The kernels do not call it. `get_cosine`, `get_logits` and user code do, and its statistics are kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .records import Records
from .upstream import upstream_class

# What turns two batches into cosines: a distance that overrides one of these computes something else.
_FORMULA = ("forward", "compute_mat", "maybe_normalize", "normalize")


class CosineSimilarity(Records, nn.Module):
    """Cosines of two batches, with the interface of upstream, for where that is not installed."""

    def __init__(self, collect_stats: bool | None = None) -> None:
        super().__init__()
        self.start_records(collect_stats)
        self.p, self.power = 2, 1
        self.normalize_embeddings = self.is_inverted = True
        self.add_to_recordable_attributes(list_of_names=["p", "power"])
        self.add_to_recordable_attributes(list_of_names=_STATISTICS, is_stat=True)

    def forward(self, query_emb: Tensor, ref_emb: Tensor | None = None) -> Tensor:
        """[N, M] cosines of [N, D] and [M, D]; of the batch with itself when `ref_emb` is None."""
        self.reset_stats()
        ref = query_emb if ref_emb is None else ref_emb
        keep_norms(self, query_emb, ref)
        return self.normalize(query_emb) @ self.normalize(ref).t()

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """[N] dot products, row by row."""
        return (query_emb * ref_emb).sum(dim=1)

    def normalize(self, embeddings: Tensor, dim: int = 1) -> Tensor:
        """Rows of length 1."""
        return F.normalize(embeddings, dim=dim)

    def get_norm(self, embeddings: Tensor, dim: int = 1) -> Tensor:
        """Euclidean norms along `dim`."""
        return torch.linalg.vector_norm(embeddings, dim=dim)

    def smallest_dist(self, *args: Any, **kwargs: Any) -> Any:
        """`torch.max`: the largest cosine is the smallest distance."""
        return torch.max(*args, **kwargs)

    def largest_dist(self, *args: Any, **kwargs: Any) -> Any:
        """`torch.min`."""
        return torch.min(*args, **kwargs)

    def margin(self, x: Tensor, y: Tensor) -> Tensor:
        """How much closer y is than x: y - x."""
        return y - x


_STATISTICS = ("initial_avg_query_norm", "initial_avg_ref_norm", "final_avg_query_norm", "final_avg_ref_norm")
_UPSTREAM = upstream_class("distances", "CosineSimilarity")


def default_distance() -> Any:
    """Return pytorch-metric-learning's `CosineSimilarity()`, or the one of this file where it is not installed."""
    return (_UPSTREAM or CosineSimilarity)()


def check_distance(owner: str, distance: Any) -> None:
    """Raise a ValueError unless `distance` computes plain cosines.

    A subclass may add to CosineSimilarity, but not override what makes the cosines.
    """
    base = next((base for base in type(distance).__mro__ if base.__name__ == "CosineSimilarity"), None)
    if (
        base is None
        or getattr(distance, "p", 2) != 2
        or getattr(distance, "power", 1) != 1
        or not getattr(distance, "normalize_embeddings", True)
    ):
        got = ", ".join(
            f"{name}={getattr(distance, name, None)}" for name in ("p", "power", "normalize_embeddings")
        )
        raise ValueError(
            f"{owner}: distance: expected None or CosineSimilarity with p=2, power=1 and normalize_embeddings=True "
            f"(the loss is defined on cosines), got {type(distance).__name__} with {got}"
        )
    for name in _FORMULA:
        if name in vars(distance) or getattr(type(distance), name, None) is not getattr(base, name, None):
            raise ValueError(
                f"{owner}: distance: expected None or CosineSimilarity, got {type(distance).__name__}, which overrides "
                f"{name}: the kernels compute plain cosines. Map the embeddings before the loss, or keep "
                "pytorch_metric_learning's loss"
            )


@torch.no_grad()
def keep_norms(distance: Any, query_emb: Tensor, ref_emb: Tensor) -> None:
    """Set the distance's statistics, mean norms before and after normalisation, if it collects them.

    They are Python numbers, as upstream, so this waits for the device.
    """
    if not getattr(distance, "collect_stats", False):
        return
    for name, rows in (("query", query_emb), ("ref", ref_emb)):
        norms = distance.get_norm(rows)
        setattr(distance, f"initial_avg_{name}_norm", norms.mean().item())
        # F.normalize divides by at least 1e-12, so a row of zeros keeps the norm 0.
        setattr(distance, f"final_avg_{name}_norm", (norms / norms.clamp_min(1e-12)).mean().item())
