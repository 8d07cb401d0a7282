"""Builds the package for this GPU alone, without a network: with nvcc where it is, else for kernels made at first use.

Where the build with nvcc fails, the other one is tried: the report says so, fails, and still has everything after it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .device import Device
from .facts import ROOT
from .sheet import Sheet

PIP = (
    "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
    "--editable", ".",
)  # fmt: skip


def run(sheet: Sheet, device: Device) -> None:
    if os.environ.get("BBS_GPU_REPORT_NO_BUILD"):
        sheet.put("installed", _installed())
        return
    for attempt in attempts(device):
        made = _install(attempt)
        sheet.put(f"attempt {attempt}", made)
        if made["exit"] == 0:
            sheet.put("installed", _installed())
            sheet.go_on()
            return
        sheet.fail(f"{made['command']}: exit status {made['exit']}")


def attempts(device: Device) -> list[str]:
    """Values of the environment variables of a build, in the order in which they are tried."""
    if not device.is_gpu:
        return ["BBS_CUDA=0"]
    sys.path.insert(0, str(ROOT / "tools"))
    from build_support import find_nvcc

    arch = device.machine()[0].removeprefix("sm_")
    return [f"BBS_CUDA=1 BBS_CUDA_ARCHS={arch}", "BBS_CUDA=0"] if find_nvcc() else ["BBS_CUDA=auto"]


def _install(attempt: str) -> dict[str, Any]:
    """Run pip, its output shown; PIP_NO_INDEX reaches what the build itself may want to fetch."""
    variables = dict(pair.split("=", 1) for pair in attempt.split())
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *PIP, "--verbose"], cwd=ROOT, env={**os.environ, **variables, "PIP_NO_INDEX": "1"}
    )
    return {
        "command": f"{attempt} python {' '.join(PIP)}",
        "seconds": round(time.monotonic() - began, 1),
        "exit": done.returncode,
    }


def _installed() -> dict[str, Any]:
    """What the installed package says of itself, asked in a process of its own, and the size of its libraries."""
    done = subprocess.run(
        [sys.executable, "-m", "bbs_kernels.info"], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True
    )
    libraries = sorted((ROOT / "bbs_kernels").glob("*.so"))
    return {
        "info": [line.strip() for line in done.stdout.splitlines() if line.strip()],
        "libraries": {path.name: path.stat().st_size for path in map(Path, libraries)},
    }
