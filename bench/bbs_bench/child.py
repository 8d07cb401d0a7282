"""One process of the benchmark on the CPU, where allocator and memory high-water mark belong to a process.

    python -m bbs_bench.child time SUITE CASE ROUNDS ALLOCATOR THREADS
    python -m bbs_bench.child memory SUITE CASE PROVIDER

Prints one JSON object a line: {"round": true} while timing, then {"timings": [...], "left_out": [...]}, or
{"extra_mib": x}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

import torch

from .cases import find_case, make_data
from .measure import measure
from .memory import extra_mib
from .providers import PROVIDERS
from .results import LeftOut, Timing
from .settings import CpuSetting


def _time(suite: str, name: str, rounds: str, allocator: str, threads: str) -> dict:
    setting = CpuSetting(allocator, int(threads))
    torch.set_num_threads(setting.threads)
    timings, left_out = measure(
        find_case(suite, name),
        setting,
        rounds=int(rounds),
        advance=lambda: print(json.dumps({"round": True}), flush=True),
    )
    return {"timings": [_plain(t) for t in timings], "left_out": [_plain(item) for item in left_out]}


def _plain(result: Timing | LeftOut) -> dict[str, Any]:
    """Its fields without the setting, which the parent process knows."""
    return {field.name: getattr(result, field.name) for field in fields(result) if field.name != "setting"}


def _memory(suite: str, name: str, provider: str) -> dict:
    case = find_case(suite, name)
    step = PROVIDERS[provider](case, make_data(case))
    return {"extra_mib": None if step is None else extra_mib(step, CpuSetting.device)}


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    print(json.dumps(_time(*arguments) if task == "time" else _memory(*arguments)), flush=True)
