"""Finds nvcc, the disassemblers, cuxray and the CUTLASS headers, and says in one line what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

# What a missing tool is called on PyPI.
PACKAGES = {
    "nvcc": "nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-cccl nvidia-cuda-runtime",
    "nvdisasm": "nvidia-cuda-nvdisasm",
    "cuobjdump": "nvidia-cuda-cuobjdump",
    "cuxray": "cuxray",
    "CUTLASS": "nvidia-cutlass",
}


@dataclass(frozen=True)
class Tools:
    nvcc: Path
    nvdisasm: Path
    cuobjdump: Path
    cutlass: Path  # include folder

    def versions(self) -> dict[str, str]:
        def last_word(tool: Path) -> str:
            text = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
            return text.partition(", V")[2].split()[0]

        return {
            "nvcc": last_word(self.nvcc),
            "nvdisasm": last_word(self.nvdisasm),
            "cuxray": _version("cuxray"),
            "CUTLASS": _version("nvidia-cutlass"),
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _program(name: str) -> Path | None:
    """On PATH, or where the wheels of the toolkit put it."""
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    return next((p for folder in sys.path for p in Path(folder).glob(f"nvidia/cu13/bin/{name}")), None)


def find_tools() -> Tools:
    """Raises click.ClickException naming what is missing and the packages that hold it."""
    programs = {name: _program(name) for name in ("nvcc", "nvdisasm", "cuobjdump")}
    library = find_spec("cutlass_library")
    cutlass = Path(library.origin).parent / "source" / "include" if library and library.origin else None
    missing = [name for name, path in programs.items() if path is None]
    if find_spec("cuxray") is None:
        missing.append("cuxray")
    if cutlass is None:
        missing.append("CUTLASS")
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise click.ClickException(
            f"the static report needs {', '.join(missing)}: pip install -r requirements-cuda.txt, or {packages}"
        )
    nvcc, nvdisasm, cuobjdump = (path for path in programs.values() if path)
    assert cutlass is not None
    return Tools(nvcc, nvdisasm, cuobjdump, cutlass)
