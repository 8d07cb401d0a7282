"""A rank's shard as tensors: from global classes to rows of the shard and back, by arithmetic per basket."""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional import basket_of
from ..sharding import Sharding


class ClassShard:
    """What `rank` owns of a `Sharding`.

    Attributes:
        offsets: [K+1] int64 on the CPU, the baskets within the shard.
        num_classes, num_local: classes of all ranks and of this one.
    """

    def __init__(self, sharding: Sharding, rank: int) -> None:
        self.sharding, self.rank = sharding, rank
        self.num_classes, self.num_local = sharding.num_classes, sharding.num_local(rank)
        self.offsets = torch.tensor(sharding.local_offsets(rank), device="cpu")
        self._global_offsets = torch.tensor(sharding.offsets, device="cpu")
        self._first = torch.tensor([start for start, _ in sharding.ranges(rank)], device="cpu")  # [K] global
        self._tables: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def basket_of(self, labels: Tensor) -> Tensor:
        """[B]: the basket of each global class."""
        return basket_of(labels, self._global_offsets)

    def local_labels(self, labels: Tensor, basket: Tensor) -> Tensor:
        """[B]: the row of the shard that is the class `labels` of `basket`; -1 where it is elsewhere or basket is -1.

        A class that does not exist becomes row `num_local`, which does not exist either, so that a device reports it.
        """
        first, size, begin = self._on(labels.device)
        slot = basket.clamp_min(0)
        at = labels - first[slot]
        here = (basket >= 0) & (at >= 0) & (at < size[slot])
        wrong = (basket >= 0) & ((labels < 0) | (labels >= self.num_classes))
        return torch.where(wrong, self.num_local, torch.where(here, begin[slot] + at, -1))

    def global_index(self, mined_idx: Tensor) -> Tensor:
        """[…, K, k] rows of the shard, listed per basket, as global classes; -1 stays."""
        first, _, begin = self._on(mined_idx.device)
        return torch.where(mined_idx < 0, -1, mined_idx + (first - begin)[:, None])

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """First global class, number of classes and first row of each basket: [K] each, copied to a device once."""
        if device not in self._tables:
            values = (self._first, self.offsets.diff(), self.offsets[:-1])
            self._tables[device] = (values[0].to(device), values[1].to(device), values[2].to(device))
        return self._tables[device]
