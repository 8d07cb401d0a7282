"""One rank of a class-parallel training that another rank leaves in mid-step; says how it ended, and after how long.

stops_main.py STORE RANK WORLD LEAVER HOW MOMENT    HOW: kill | freeze; MOMENT: before | between | backward
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import basket_softmax as bs

TIMEOUT = 8.0  # of the process group, seconds


def main(store: str, rank: int, world: int, leaver: int, how: str, moment: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=TIMEOUT)
    )
    torch.manual_seed(0)
    head = bs.BasketSoftmaxLoss({"a": 31, "b": 17}, 8, process_group=dist.group.WORLD)

    def leave(at: str) -> None:
        if step == 2 and rank == leaver and at == moment:
            print("leaves", flush=True)
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    for step in range(4):
        x = torch.randn(
            5, 8, generator=torch.Generator().manual_seed(step * world + rank), requires_grad=True
        )
        start = time.monotonic()
        try:
            leave("before")
            loss = head(x, torch.arange(5) + rank)
            leave("between")
            x.register_hook(lambda _: leave("backward"))
            loss.backward()
        except RuntimeError as error:
            print(f"failed after {time.monotonic() - start:.1f} s: {error}", flush=True)
            os._exit(3)  # as a script that ends with the exception, without waiting for the lost rank
    print("ended", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:7])
