"""`python -m bbs_kernels.info`: what was built and what this machine has, for bug reports."""

from __future__ import annotations

import ctypes
import os
import platform
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import torch

from . import _core  # type: ignore[attr-defined]  # compiled
from .ops import images, nvrtc


def info() -> dict[str, str]:
    """Build and machine facts as text, in the order in which they are printed."""
    build = _core.build_info()
    return {
        "bbs-kernels": f"{metadata.version('bbs-kernels')} (built with torch {build['torch']}, {build['compiler']}, "
        f"{build['build_type']})",
        "torch": torch.__version__,
        "CPU kernels": f"{build['cpu_isas']}; in use: {_core.cpu_isa()}",
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        "CUDA kernels": _images(),
        "NVRTC": _nvrtc(),
        "CUDA driver": _driver(),
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


def _images() -> str:
    """Return the targets of the image files, their sizes and where they are."""
    sizes: dict[str, int] = defaultdict(int)
    for image in images.shipped():
        kind = "PTX for compute" if image.is_ptx else "machine code for sm"
        sizes[f"{kind}_{image.arch}"] += image.path.stat().st_size
    if not sizes:
        return "no images in this build: compiled by NVRTC at first use"
    listed = ", ".join(f"{target} ({size / 2**20:.1f} MiB)" for target, size in sorted(sizes.items()))
    return f"{listed}, made by nvcc, in {images.FOLDER}"


def _nvrtc() -> str:
    version = nvrtc.version()
    if version is None:
        return "not usable: `pip install bbs-kernels[cupy]` brings it, for GPUs that the images are not for"
    kept = len(list(nvrtc.cache_folder().glob("*.cubin")))
    return f"{version}, through CuPy; {kept} compiled kernels in {nvrtc.cache_folder()}"


def _driver() -> str:
    """Return the newest CUDA that NVIDIA's driver takes."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "none"
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return "does not answer"
    return f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


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
