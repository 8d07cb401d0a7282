"""One tensor with a row per class, of which this rank holds the rows that a `Sharding` gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from ..sharding import Sharding


def key_of(name: str, basket: str) -> str:
    """The key under which the rows of one basket stand in the checkpoint."""
    return f"{name}/{basket}"


class Chunk(NamedTuple):
    """Consecutive rows of one basket: their key, the basket's full shape, where they lie in it, and a view of them."""

    key: str
    size: torch.Size
    place: ChunkStorageMetadata
    view: Tensor


@dataclass(frozen=True)
class ShardedRows:
    """A rank's part of a tensor [C, ...].

    Args:
        name: "weight", "optimizer.exp_avg", …: the first half of the keys.
        baskets: the K names of the baskets, in the order of `sharding.sizes`.
        sharding: who owns which class.
        rank: whose part this is.
        tensor: [sharding.num_local(rank), ...], any dtype and device. It is read when saved and written when loaded.

    Raises:
        ValueError: `tensor` has another number of rows, or there are more or fewer names than baskets.
    """

    name: str
    baskets: tuple[str, ...]
    sharding: Sharding
    rank: int
    tensor: Tensor

    def __post_init__(self) -> None:
        if len(self.baskets) != len(self.sharding.sizes):
            raise ValueError(f"baskets: expected {len(self.sharding.sizes)} names, got {len(self.baskets)}")
        rows = self.sharding.num_local(self.rank)
        if self.tensor.shape[:1] != (rows,):
            raise ValueError(
                f"tensor: expected shape [{rows}, ...], the rows of rank {self.rank}, got {tuple(self.tensor.shape)}"
            )

    def chunks(self) -> Iterator[Chunk]:
        """This rank's part of every basket of which it owns a class."""
        trailing = self.tensor.shape[1:]
        zeros = (0,) * len(trailing)
        ranges, local = self.sharding.ranges(self.rank), self.sharding.local_offsets(self.rank)
        for b, ((start, stop), first) in enumerate(zip(ranges, self.sharding.offsets, strict=False)):
            if stop > start:
                yield Chunk(
                    key_of(self.name, self.baskets[b]),
                    torch.Size((self.sharding.sizes[b], *trailing)),
                    ChunkStorageMetadata(
                        offsets=torch.Size((start - first, *zeros)),
                        sizes=torch.Size((stop - start, *trailing)),
                    ),
                    self.tensor.detach()[local[b] : local[b + 1]],
                )
