"""One process of the benchmark: allocator and memory high-water mark belong to a process, so each has its own.

    python -m bbs_bench.child time SUITE CASE ROUNDS ALLOCATOR THREADS
    python -m bbs_bench.child memory SUITE CASE PROVIDER

Prints one JSON object a line: {"round": n} while timing, then {"timings": [...]} or {"extra_mib": x}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from .cases import find_case, make_data
from .measure import measure, run
from .providers import PROVIDERS


def _time(suite: str, name: str, rounds: str, allocator: str, threads: str) -> dict:
    torch.set_num_threads(int(threads))
    timings = measure(
        find_case(suite, name),
        rounds=int(rounds),
        allocator=allocator,
        threads=int(threads),
        advance=lambda: print(json.dumps({"round": True}), flush=True),
    )
    return {"timings": [asdict(timing) for timing in timings]}


def _memory(suite: str, name: str, provider: str) -> dict:
    """MiB at the peak of two steps beyond what stood before them, less the gradients that a step returns."""
    case = find_case(suite, name)
    data = make_data(case)
    step = PROVIDERS[provider](case, data)
    if step is None:
        return {"extra_mib": None}
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    for _ in range(2):
        run(step)
    owed = 4 * case.batch * case.width + (0 if "fused" in provider else 4 * case.classes * case.width)
    return {"extra_mib": (_resident("VmHWM") - before - owed) / 2**20}


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    print(json.dumps(_time(*arguments) if task == "time" else _memory(*arguments)), flush=True)
