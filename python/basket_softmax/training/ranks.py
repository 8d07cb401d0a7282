"""The processes of a run: this one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks(NamedTuple):
    """rank of world; the device of this process; the process group, None when it is alone."""

    rank: int
    world: int
    device: torch.device
    group: dist.ProcessGroup | None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every rank is here."""
        if self.group is not None:
            dist.barrier(group=self.group)

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with those of the first rank; every rank has the same shapes."""
        if self.group is not None:
            for tensor in tensors:
                dist.broadcast(tensor, group=self.group, group_src=0)

    def from_all(self, value: Any) -> list[Any]:
        """Every rank's `value`, in the order of the ranks; plain values and tensors on the CPU."""
        if self.group is None:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.group)
        return found


class DeviceError(RuntimeError):
    """A device that this machine does not have."""


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the group that torchrun's environment names, on Gloo (CPU) or NCCL; leave it at the end.

    Args:
        device: "cpu", "cuda" or "cuda:N"; under torchrun "cuda" is the GPU of the local rank.

    Raises:
        DeviceError: there is no such GPU.
    """
    chosen = torch.device(device)
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"device: expected cpu, since torch finds no GPU here, got {device}")
        count = torch.cuda.device_count()
        if chosen.index is not None and chosen.index >= count:
            raise DeviceError(f"device: expected cuda:0 to cuda:{count - 1}, got {device}")
        if launched and chosen.index is None:
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    if not launched:
        yield Ranks(0, 1, chosen, None)
        return
    dist.init_process_group("gloo" if chosen.type == "cpu" else "nccl")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), chosen, dist.group.WORLD)
    finally:
        dist.destroy_process_group()
