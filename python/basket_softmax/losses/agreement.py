"""What every rank of a class-parallel head must have alike, by the names that the user gave it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bbs_kernels.ops.prepare import autocast

from ..baskets import Baskets

if TYPE_CHECKING:
    from .basket import BasketSoftmaxLoss


def of_baskets(baskets: Baskets) -> dict[str, Any]:
    """Return the baskets as one entry."""
    return {"baskets": dict(zip(baskets.names, baskets.sizes, strict=True))}


def of_margin(margin: Callable[..., Any]) -> Any:
    """Return what tells margins apart in every process: the numbers of a dataclass, else the name of the class."""
    return margin if is_dataclass(margin) else getattr(margin, "__qualname__", type(margin).__qualname__)


def can_compare(values: Any) -> bool:
    """Return whether `values` has numbers: a fake tensor, as tracing uses, has a shape alone."""
    return not isinstance(values, FakeTensor)


def of_aliases(aliases: Tensor) -> str:
    """Return a text that is the same for equal `aliases`, [C]; waits for the device."""
    if not can_compare(aliases):
        return ""
    return f"{len(aliases)} numbers with checksum {zlib.crc32(aliases.cpu().numpy().tobytes())}"


def of_head(head: BasketSoftmaxLoss, embeddings: Any, sample_weight: Tensor | None) -> dict[str, Any]:
    """Return what a forward pass must find alike on every rank; arguments as the user gave them."""
    parallel = head._parallel
    assert parallel is not None
    fed = autocast(embeddings.new_empty(0)).dtype if isinstance(embeddings, Tensor) else None
    return {
        **of_baskets(head.baskets),
        "embedding_size": head.embedding_size,
        "subcenters": head.subcenters,
        "shard": parallel.shard.sharding.kind,
        "dtype": head.weight.dtype,
        "margin": of_margin(head.margin),
        "scale": head.scale,
        "mining": head.mining,
        "reduction": head.reduction,
        "ignore_index": head.ignore_index,
        "aliases": None if head.aliases is None else parallel.aliases,
        "sample_rate": head.sample_rate,
        "grad_average": parallel.grad_factor != 1.0,
        "equal_batches": parallel.equal_batches,
        "training": head.training,
        "embeddings": fed,
        "sample_weight": None if sample_weight is None else "given",
        "optimizer": None if head._fused is None else type(head._fused).__name__,
    }
