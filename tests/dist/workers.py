"""Processes with a Gloo group, started once and asked many things: starting Python and torch costs seconds, a question
milliseconds. Nothing hangs: collectives have a timeout, an answer has one, and whoever is late is killed.
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import tempfile
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(seconds=60)
GRACE = 3.0  # seconds that the others get when one has failed


class Failed(AssertionError):
    """What a process raised, as text."""


class Workers:
    """`world` processes; `run` has some or all of them call a function of a module in this folder."""

    def __init__(self, world: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(world):
            here, there = context.Pipe()
            arguments = (rank, world, str(Path(self._folder.name) / "store"), there)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, world: int, function: str, *args: Any, timeout: float = 120.0) -> list[Any]:
        """What `function`, "module.name" in this folder, returns on ranks 0 … world - 1, called as f(group, *args).

        Raises:
            Failed: it raised in some process, whose traceback this carries; or an answer did not come in time.
        """
        for pipe in self._pipes[:world]:
            pipe.send((world, function, args))
        end = time.monotonic() + timeout
        answers: dict[int, Any] = {}
        waiting = {pipe: rank for rank, pipe in enumerate(self._pipes[:world])}
        while waiting and (ready := wait(list(waiting), max(end - time.monotonic(), 0.0))):
            for pipe in ready:
                ok, answer = pipe.recv()
                answers[waiting.pop(pipe)] = (ok, answer)
                if not ok:  # the others may be waiting for this one in a collective
                    end = min(end, time.monotonic() + GRACE)
        failures = [f"rank {rank}: {answer}" for rank, (ok, answer) in answers.items() if not ok]
        failures += [f"rank {rank} of {world} gave no answer within {timeout} s" for rank in waiting.values()]
        if failures:
            self.stop()
            raise Failed(f"{function} in {world} processes\n" + "\n".join(failures))
        return [
            torch.load(io.BytesIO(answer), weights_only=False)
            for _, answer in (answers[rank] for rank in range(world))
        ]

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def _serve(rank: int, world: int, store: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
    )
    groups = [dist.new_group(list(range(n + 1)), timeout=COLLECTIVE_TIMEOUT) for n in range(world)]
    while True:
        try:
            size, function, args = pipe.recv()
        except EOFError:
            return
        module, name = function.split(".")
        answer = io.BytesIO()
        try:
            torch.save(
                getattr(importlib.import_module(f"dist.{module}"), name)(groups[size - 1], *args), answer
            )
            pipe.send((True, answer.getvalue()))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
