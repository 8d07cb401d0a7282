"""A training script as one would write it for torchrun: resumes from the last checkpoint if there is one.

    torchrun … resume_main.py FOLDER STEPS [KILL_RANK KILL_STEP]

Saves every second step. In its first life, rank KILL_RANK kills itself in KILL_STEP, after the forward pass.
At the end rank 0 writes FOLDER/end.pt: the full centres, the optimiser's momentum of rank 0's shard, the backbone.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs

BASKETS = {"a": 31, "b": 17, "c": 1, "d": 48}
WIDTH, ROWS = 12, 9


def main(folder: Path, steps: int, kill: tuple[int, int] | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    rank, first_life = dist.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    torch.manual_seed(0)
    backbone = DistributedDataParallel(nn.Linear(WIDTH, WIDTH))
    head = bs.BasketSoftmaxLoss(
        BASKETS, WIDTH, mining=bs.TopK(4, guard=bs.Ema(0.5)), process_group=dist.group.WORLD
    )
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.5, momentum=0.9)
    done = 0
    if (folder / "last" / "checkpoint.json").exists():
        extra = bs.checkpoint.load(folder / "last", head, optimizer)
        backbone.load_state_dict(extra["backbone"])
        done = extra["done"]
    print(f"rank {rank} starts at step {done}", flush=True)
    for step in range(done, steps):
        draw = torch.Generator().manual_seed(1000 * step + rank)
        x = torch.randn(ROWS, WIDTH, generator=draw)
        labels = torch.randint(0, head.num_classes, (ROWS,), generator=draw)
        loss = head(backbone(x), labels)
        if first_life and kill == (rank, step):
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 2 == 1:
            bs.checkpoint.save(
                folder / "last", head, optimizer, {"backbone": backbone.state_dict(), "done": step + 1}
            )
    end = {
        "weight": head.full_weight(),
        "ema": head.ema,
        "momentum": optimizer.state[head.weight]["momentum_buffer"],
        "backbone": backbone.state_dict(),
    }
    if rank == 0:
        torch.save(end, folder / "end.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        (int(sys.argv[3]), int(sys.argv[4])) if len(sys.argv) > 3 else None,
    )
