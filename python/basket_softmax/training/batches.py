"""Batches from any step of a run on: the same images in the same order, however often it was interrupted.

The order of an epoch is a function of (seed, epoch), a view of (seed, epoch, image). So a position is one number, the
step. Under several ranks every rank takes each P-th row of the batch: together they see what one process sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import ImageBasket, MixedBaskets, MixedBasketSampler
from ..data.loading import read_batches
from .config import Config
from .datasets import DataError

Batch = tuple[Tensor, Tensor, Tensor]  # images [b, C, H, W] fp32, local labels [b], baskets [b]


class Batches:
    """The training batches of one rank.

    Args:
        baskets: those that are trained.
        rank, world: of how many this process is which.

    Raises:
        DataError: there is less than one batch, or a proportion that gives a basket no row.
    """

    def __init__(self, config: Config, baskets: list[ImageBasket], rank: int = 0, world: int = 1) -> None:
        self.dataset = MixedBaskets(baskets, config.image.build(), config.augment.build(), config.seed)
        self.config, self.rank, self.world = config, rank, world
        if config.batch_size < 2 * world:
            raise DataError(
                f"batch_size: expected {2 * world} or more for {world} ranks, got {config.batch_size}"
            )
        proportions = [config.baskets[basket.name].proportion for basket in baskets]
        weights = None if proportions[0] is None else [p for p in proportions if p is not None]
        try:
            self.sampler = MixedBasketSampler(
                self.dataset.basket, config.batch_size, weights, seed=config.seed, drop_last=True
            )
        except ValueError as error:
            raise DataError(_too_small(config) or f"baskets.….proportion and batch_size: {error}") from error
        if len(self.sampler) == 0:
            raise DataError(
                f"batch_size: expected at most the {len(self.dataset)} images there are, got {config.batch_size}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; an incomplete last one is left out."""
        return len(self.sampler)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def from_step(self, step: int) -> Iterator[Batch]:
        """The batches of steps `step`, `step + 1`, … to the last."""
        first, skip = divmod(step, self.steps_per_epoch)
        for epoch in range(first, self.config.epochs):
            yield from self._epoch(epoch, skip if epoch == first else 0)

    def _epoch(self, epoch: int, skip: int) -> Iterator[Batch]:
        self.sampler.set_epoch(epoch)
        self.dataset.set_epoch(epoch)
        # The loader draws the seed of its workers from a generator of its own: the global one must not depend on how
        # often a run was resumed.
        loader = DataLoader(
            self.dataset,
            batch_sampler=_Rows(self.sampler, skip, self.rank, self.world),
            num_workers=self.config.workers,
            pin_memory=self.config.device != "cpu",
            generator=torch.Generator().manual_seed(self.config.seed),
        )
        yield from read_batches(loader)


def _too_small(config: Config) -> str | None:
    """The message for the smallest proportion, where it gives less than one row of a batch."""
    proportions = {name: source.proportion or 0.0 for name, source in config.baskets.items()}
    name = min(proportions, key=proportions.__getitem__)
    together = sum(proportions.values())
    if not 0 < together < math.inf or config.batch_size * proportions[name] / together >= 1:
        return None
    return (
        f"baskets.{name}.proportion: expected a row in a batch of {config.batch_size}, got none by "
        f"{proportions[name]:g} of {together:g} together: take a larger proportion, or a larger batch_size"
    )


class _Rows:
    """This rank's rows of an epoch's batches, without the first `skip` batches."""

    def __init__(self, sampler: Any, skip: int, rank: int, world: int) -> None:
        self.sampler, self.skip, self.rank, self.world = sampler, skip, rank, world

    def __len__(self) -> int:
        return len(self.sampler) - self.skip

    def __iter__(self) -> Iterator[list[int]]:
        for batch in islice(self.sampler, self.skip, None):
            yield batch[self.rank :: self.world]
