"""Two processes with a Gloo group that hold every provider's steps and run those they are told to."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from .cases import LAYOUTS, PROVIDERS, Size
from .steps import Step, centres, make_step
from .traffic import received_bytes

RANKS = 2
TIMEOUT = timedelta(seconds=300)
Key = tuple[str, str]  # layout, provider


class Ran(NamedTuple):
    """seconds and received (bytes) of the slowest rank; loss."""

    seconds: float
    received: int
    loss: float


class Ranks:
    """The processes; use as a context."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def __enter__(self) -> Ranks:
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(RANKS):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(rank, str(Path(self._folder.name) / "store"), self._size, there),
                daemon=True,
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()

    def run(self, key: Key) -> Ran:
        """One step of a layout and a provider, on the ranks of the layout."""
        wanted = next(layout.ranks for layout in LAYOUTS if layout.name == key[0])
        for pipe in self._pipes[:wanted]:
            pipe.send(key)
        try:
            answers = [pipe.recv() for pipe in self._pipes[:wanted]]
        except EOFError:
            raise RuntimeError(f"a rank ended in {key}: its error is above") from None
        return Ran(max(a.seconds for a in answers), max(a.received for a in answers), answers[0].loss)


def _serve(rank: int, store: str, size: Size, pipe: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=TIMEOUT
    )
    groups: dict[int, Any] = {n: dist.new_group(list(range(n)), timeout=TIMEOUT) for n in range(1, RANKS + 1)}
    layouts = {layout.name: layout for layout in LAYOUTS}
    shared = centres(size)
    steps: dict[Key, Step] = {
        (layout.name, provider.name): make_step(provider, layout, size, groups[layout.ranks], shared)
        for layout in LAYOUTS
        if rank < layout.ranks
        for provider in PROVIDERS
    }
    while True:
        try:
            key: Key = pipe.recv()
        except EOFError:
            return
        layout = layouts[key[0]]
        torch.set_num_threads(layout.threads)
        dist.barrier(groups[layout.ranks])
        before, began = received_bytes(), time.perf_counter()
        loss = steps[key].run()
        ran = Ran(time.perf_counter() - began, received_bytes() - before, loss)
        steps[key].clear()
        pipe.send(ran)
