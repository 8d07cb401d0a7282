"""Body: what a rank's sockets receive in a step, counted by the kernel."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

import basket_softmax as bs

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "bench")
)  # runs from the checkout, is not installed

from bbs_parallel.traffic import received_bytes

WIDTH = 512


def of_a_step(
    group: dist.ProcessGroup, rows: int, sizes: list[int], mining: object, dtype: torch.dtype
) -> int:
    """Bytes of forward and backward; `rows` per rank."""
    torch.manual_seed(dist.get_rank(group))
    head = bs.BasketSoftmaxLoss(sizes, WIDTH, mining=mining, process_group=group)
    x = torch.randn(rows, WIDTH).to(dtype).requires_grad_()
    labels = torch.randint(sum(sizes), (rows,))
    head(x, labels).backward()  # connections are made
    dist.barrier(group)
    before = received_bytes()
    head(x, labels).backward()
    return received_bytes() - before
