"""`python -m bbs_kernels.info`: what was built and what this machine has, for bug reports."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from . import _core  # type: ignore[attr-defined]  # compiled
from ._load import CUDA_LIBRARY


def info() -> dict[str, str]:
    """Build and machine facts as text, in the order in which they are printed."""
    build = _core.build_info()
    cuda_built = CUDA_LIBRARY.exists()
    return {
        "bbs-kernels": f"{metadata.version('bbs-kernels')} (built with torch {build['torch']}, {build['compiler']}, "
        f"{build['build_type']})",
        "torch": torch.__version__,
        "CPU kernels": f"{build['cpu_isas']}; in use: {_core.cpu_isa()}",
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        "CUDA kernels": f"built for {build['cuda_archs']}" if cuda_built else "not built",
        "GPU": _gpus(),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none"
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return "; ".join(f"{p.name} (sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB)" for p in names)


def main() -> None:
    facts = info()
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
