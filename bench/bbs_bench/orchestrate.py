"""Runs the processes of a benchmark one after another and collects what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .cases import SUITES
from .measure import Timing
from .providers import PROVIDERS

# Fresh large blocks cost page faults, and freeing them gives the pages back. "default" is what people run; "tuned"
# keeps everything on the heap, which is kindest to code that allocates much.
ALLOCATORS = {
    "default": {},
    "tuned": {
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
    },
}


def run_suite(
    suite: str,
    *,
    rounds: int,
    allocators: tuple[str, ...],
    threads: tuple[int, ...],
    memory: bool,
    describe: Callable[[str], None],
    advance: Callable[[], None],
) -> list[Timing]:
    """Time every case of a suite under each allocator and thread count; measure memory once per provider.

    Raises:
        RuntimeError: a process failed; its error text is in the message.
    """
    timings: list[Timing] = []
    for case in SUITES[suite]:
        for allocator in allocators:
            for count in threads:
                describe(f"{case.name}, {allocator} allocator, {count} thread{'s' * (count > 1)}")
                for message in _child(
                    "time", suite, case.name, rounds, allocator, count, env=ALLOCATORS[allocator]
                ):
                    if "round" in message:
                        advance()
                    else:
                        timings += [Timing(**timing) for timing in message["timings"]]
        if memory:
            describe(f"{case.name}, memory")
            extra = {}
            for provider in PROVIDERS:
                if any(t.case == case.name and t.provider == provider for t in timings):
                    (message,) = _child("memory", suite, case.name, provider, env={})
                    extra[provider] = message["extra_mib"]
            timings = [replace(t, extra_mib=extra[t.provider]) if t.case == case.name else t for t in timings]
    return timings


def _child(*arguments: object, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "bbs_bench.child", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            yield json.loads(line)
        errors = process.stderr.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed:\n{errors[-2000:]}")
