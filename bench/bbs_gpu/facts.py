"""What the machine is, and how fast it copies, reads and multiplies."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .device import Device
from .peaks import measure_peaks
from .sheet import Sheet

ROOT = Path(__file__).resolve().parents[2]
# What a part of the report needs besides torch: the part is skipped where it is missing.
OPTIONAL = (
    "click", "cupy", "cut_cross_entropy", "hypothesis", "liger_kernel", "PIL", "psutil", "pydantic", "pytest", "rich",
    "triton", "xdist", "yaml",
)  # fmt: skip


def run(sheet: Sheet, device: Device) -> None:
    for name, value in facts(device).items():
        sheet.put(name, value)
    if device.is_gpu and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no GPU")
    peaks: dict[str, Any] = {}
    for name, rate in measure_peaks(device):
        peaks[name] = rate
        sheet.put("peaks", peaks)


def facts(device: Device) -> dict[str, str]:
    """Facts as text, in the order of the page."""
    include = Path(sysconfig.get_path("include")) / "Python.h"
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    found = {
        "commit": _first("git", "describe", "--always", "--dirty"),
        "torch": f"{torch.__version__}, built for CUDA {torch.version.cuda or '–'}",
        "Python": f"{platform.python_version()}; Python.h: {'yes' if include.exists() else 'no'}",
        "setuptools": _version("setuptools"),
        "C++ compiler": _first(os.environ.get("CXX", "c++"), "--version"),
        "CMake, ninja": f"{_first('cmake', '--version')}, {_first('ninja', '--version')}",
        "nvcc": _last("nvcc", "--version"),
        "compute-sanitizer": shutil.which("compute-sanitizer") or "not on PATH",
        "CPU": f"{os.cpu_count()} cores",
        "packages not installed": ", ".join(missing) or "none",
    }
    if device.is_gpu and torch.cuda.is_available():
        found |= _gpu()
    return found


def _gpu() -> dict[str, str]:
    p = torch.cuda.get_device_properties(0)
    free, total = (value / 2**30 for value in torch.cuda.mem_get_info())
    return {
        "GPU": f"{p.name}, sm_{p.major}{p.minor}, {p.multi_processor_count} multiprocessors, "
        f"{p.L2_cache_size / 2**20:.0f} MiB of L2",
        "memory": f"{free:.1f} GiB free of {total:.1f} GiB",
        "driver": _first("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _first(*command: str) -> str:
    return (_output(*command) or ["unknown"])[0]


def _last(*command: str) -> str:
    return (_output(*command) or ["not on PATH"])[-1]


def _output(*command: str) -> list[str]:
    """Lines that a program prints; none where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
