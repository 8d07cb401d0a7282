"""`MixedBasketSampler`: batches that mix the baskets in given proportions, whatever their sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from bbs_kernels.validate import positive_int


class MixedBasketSampler(Sampler[list[int]]):
    """A batch sampler for `DataLoader(batch_sampler=...)`: every batch holds rows of several baskets.

    Without `weights` an epoch is a shuffle of all samples, so baskets appear in proportion to their sizes and
    every sample once. With `weights` each batch holds round(batch_size * weight / sum) rows of each basket
    (largest remainders first, so that they add up); a basket that runs out starts over with a new shuffle, and
    an epoch is as many batches as all samples fill once. A basket with a small weight is then not seen whole in one
    epoch: the next epoch goes on where this one stopped, so that every sample of a basket comes once before one comes
    twice.

    Call `set_epoch(epoch)` before each epoch, as with torch's `DistributedSampler`: without it every epoch is the same.

    Args:
        basket: [N] int64, the basket of each sample of the dataset.
        batch_size: rows per batch.
        weights: one non-negative number per basket, or None for proportional to size. Proportions are kept within
            every batch, so a positive weight too small for one row of `batch_size` is an error, not a basket
            that is never seen.
        seed: of the order; the same seed and epoch give the same batches.
        drop_last: leave out an incomplete last batch (only without `weights`; with them all are full).

    Raises:
        TypeError, ValueError: an argument that is not of these.
    """

    def __init__(
        self,
        basket: Tensor | Sequence[int],
        batch_size: int,
        weights: Sequence[float] | None = None,
        *,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.basket = torch.as_tensor(basket, device="cpu")
        if self.basket.dim() != 1 or len(self.basket) == 0 or self.basket.is_floating_point():
            raise ValueError(
                f"basket: expected integers [N], N > 0, got {self.basket.dtype} {list(self.basket.shape)}"
            )
        if int(self.basket.min()) < 0:
            raise ValueError(f"basket: expected values from 0, got {int(self.basket.min())}")
        self.batch_size = positive_int("batch_size", batch_size)
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        self._members = [torch.nonzero(self.basket == b).flatten() for b in range(int(self.basket.max()) + 1)]
        self._counts = None if weights is None else self._rows_per_basket(list(weights))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.basket), self.batch_size)
        return full + bool(rest) * (self._counts is not None or not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self._counts is None:
            order = torch.randperm(len(self.basket), generator=generator, device="cpu").tolist()
            for i in range(len(self)):
                yield order[i * self.batch_size : (i + 1) * self.batch_size]
            return
        streams = [self._stream(b) for b in range(len(self._members))]
        for _ in range(len(self)):
            batch = [next(streams[b]) for b, count in enumerate(self._counts) for _ in range(count)]
            yield [batch[i] for i in torch.randperm(len(batch), generator=generator, device="cpu").tolist()]

    def _stream(self, basket: int) -> Iterator[int]:
        """Shuffle after shuffle of a basket's samples, from where the epochs before this one left off."""
        assert self._counts is not None
        members = self._members[basket]
        shuffle, start = divmod(self.epoch * len(self) * self._counts[basket], len(members))
        while True:
            seed = random.Random(f"{self.seed}/{basket}/{shuffle}").getrandbits(63)
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(members), generator=generator, device="cpu")
            yield from members[order[start:]].tolist()
            shuffle, start = shuffle + 1, 0

    def _rows_per_basket(self, weights: list[float]) -> list[int]:
        if len(weights) != len(self._members):
            raise ValueError(f"weights: expected one per basket, {len(self._members)}, got {len(weights)}")
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise ValueError(f"weights: expected non-negative numbers with a positive sum, got {weights}")
        for b, (weight, members) in enumerate(zip(weights, self._members, strict=True)):
            if weight > 0 and len(members) == 0:
                raise ValueError(f"weights[{b}]: expected 0, since basket {b} has no sample, got {weight}")
        wanted = [self.batch_size * weight / sum(weights) for weight in weights]
        counts = [int(value) for value in wanted]
        by_remainder = sorted(range(len(wanted)), key=lambda b: (counts[b] - wanted[b], b))
        for b in by_remainder[: self.batch_size - sum(counts)]:
            counts[b] += 1
        for b, weight in enumerate(weights):
            if weight > 0 and counts[b] == 0:
                raise ValueError(
                    f"weights[{b}]: expected a row of basket {b} in a batch of {self.batch_size}, got none by "
                    f"{weight}: take 0, a larger weight, or a larger batch_size"
                )
        return counts
