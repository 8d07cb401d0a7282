"""Where a head's rows are, and steps that all ranks of its group take together or refuse together.

Every error on one rank becomes the same error on all: a rank that stopped alone would leave the others waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist

from bbs_kernels.sharding import Sharding

from .errors import CheckpointError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """The layout of the rows, whose part this process holds, and the group (None: one process, no communication)."""

    sharding: Sharding
    rank: int = 0
    group: dist.ProcessGroup | None = None

    @property
    def world(self) -> int:
        return self.sharding.world

    def everywhere(self, step: Callable[[], T]) -> list[T]:
        """What `step` returns on each rank, on every rank.

        Raises:
            CheckpointError: it failed on some rank, with the message of the first that did.
        """
        try:
            outcome: tuple[bool, T | str] = (True, step())
        except Exception as error:
            if self.group is None:
                raise
            outcome = (False, f"rank {self.rank}: {error}")
        if self.group is None:
            return [outcome[1]]  # type: ignore[list-item]
        outcomes: list[tuple[bool, T | str]] = [outcome] * self.world
        dist.all_gather_object(outcomes, outcome, group=self.group)
        for done, value in outcomes:
            if not done:
                raise CheckpointError(str(value))
        return [value for _, value in outcomes]  # type: ignore[misc]

    def together(self, step: Callable[[], T]) -> T:
        """What `step` returns here, once it is done on every rank; the values stay where they are. Raises likewise."""
        own: list[T] = []
        self.everywhere(lambda: own.append(step()))
        return own[0]

    def once(self, step: Callable[[], T]) -> T:
        """What `step` returns on rank 0, on every rank; the others wait for it. Raises likewise."""
        return self.everywhere(lambda: step() if self.rank == 0 else None)[0]  # type: ignore[return-value]
