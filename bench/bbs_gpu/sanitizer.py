"""A handful of steps under compute-sanitizer: bounds, then races. A rehearsal runs the steps alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from .device import Device
from .sheet import Sheet

PROGRAM = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
REFUSED = "Device not supported"  # what it prints where the machine does not let it look
TAIL = 15


def run(sheet: Sheet, device: Device) -> None:
    steps = [sys.executable, "-m", f"{__package__}.handful", device.name]
    if not device.is_gpu:
        _run(sheet, "no tool", steps)
        return
    if shutil.which(PROGRAM) is None:
        sheet.skip(f"{PROGRAM} is not on PATH")
        return
    for tool in TOOLS:
        refused = _run(sheet, tool, [PROGRAM, "--tool", tool, "--error-exitcode", "1", *steps])
        if refused:
            sheet.skip(f"{PROGRAM}: {refused}")
            return


def _run(sheet: Sheet, tool: str, command: list[str]) -> str | None:
    """Run the steps; returns what a sanitizer said that does not work on this machine."""
    # Memcheck sees the bounds of a tensor only where each has its own allocation.
    env = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if tool == "memcheck" else None
    began = time.monotonic()
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout, flush=True)
    lines = done.stdout.splitlines()
    if any(REFUSED in line for line in lines):
        return REFUSED
    summary = [line.strip("= ") for line in lines if "SUMMARY" in line]
    sheet.put(
        tool, {"exit": done.returncode, "summary": summary, "seconds": round(time.monotonic() - began, 1)}
    )
    if done.returncode:
        sheet.fail("\n".join([f"{tool}: exit status {done.returncode}", *lines[-TAIL:]]))
    return None
