"""Bodies that test the harness itself."""

from __future__ import annotations

import time

import torch.distributed as dist


def answers(group: dist.ProcessGroup, add: int) -> int:
    return dist.get_rank(group) + add


def one_fails(group: dist.ProcessGroup) -> None:
    if dist.get_rank(group) == 1:
        raise ValueError("rank one had enough")


def one_sleeps(group: dist.ProcessGroup) -> None:
    if dist.get_rank(group) == 1:
        time.sleep(600)
