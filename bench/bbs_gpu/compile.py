"""What torch.compile(mode="reduce-overhead") makes of the loss, and what it says about CUDA graphs."""

from __future__ import annotations

import os
import subprocess
import sys

from .device import Device
from .facts import ROOT
from .sheet import Sheet

SHOWN = 12  # lines
LOGS = "perf_hints,graph_breaks,recompiles"
PREFIX = "compiled: "


def run(sheet: Sheet, device: Device) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.reduce_overhead", device.name], cwd=ROOT, text=True,
        env={**os.environ, "TORCH_LOGS": LOGS}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(done.stdout, flush=True)
    lines = done.stdout.splitlines() or ["nothing was printed"]
    sheet.put("told", told(lines))
    result = next((line for line in lines if line.startswith(PREFIX)), None)
    if done.returncode or result is None:
        sheet.fail(f"exit status {done.returncode}: {lines[-1]}")
    else:
        sheet.put("result", result.removeprefix(PREFIX))


def told(lines: list[str]) -> list[str]:
    """What the logs say about graphs, each once, without the logger's prefix."""
    found = [line for line in lines if "cudagraph" in line.lower() or "graph break" in line.lower()]
    return list(dict.fromkeys(line.rpartition("] ")[2].strip() for line in found))[:SHOWN]
