"""Source text to machine code by NVRTC, cached on disk. Needs CuPy and its NVRTC, but no GPU and no driver."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .sources import INCLUDE


class Compiled(NamedTuple):
    """Machine code of one architecture, and the symbol of each C++ kernel name in it."""

    path: Path
    symbols: dict[str, str]


def cache_folder() -> Path:
    """$BBS_CACHE_DIR, else bbs_kernels in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("BBS_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bbs_kernels"


@cache
def headers_digest() -> str:
    """Changes when any kernel header does."""
    files = sorted(p for p in INCLUDE.parent.rglob("*") if p.suffix in (".h", ".cuh"))
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in files)).hexdigest()


def compile_kernels(source: str, names: Sequence[str], arch: int) -> Compiled:
    """`source` with the kernels `names` (C++ names) as machine code for `arch` (80 for sm_80).

    Raises:
        ImportError: CuPy or its NVRTC is missing; the message says what to install.
        RuntimeError: the kernels do not compile; the message carries the compiler's log.
    """
    nvrtc = _nvrtc()
    options = (f"-arch=sm_{arch}", "-std=c++17", "-I", str(INCLUDE))
    key = json.dumps([source, list(names), arch, nvrtc.getVersion(), headers_digest()])
    folder = cache_folder()
    code = folder / f"sm_{arch}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.cubin"
    table = code.with_suffix(".json")
    if code.exists() and table.exists():
        return Compiled(code, json.loads(table.read_text()))
    program = nvrtc.createProgram(source, "bbs_kernels.cu", (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            raise RuntimeError(
                f"bbs_kernels: NVRTC cannot compile the kernels for sm_{arch}:\n{log}"
            ) from error
        machine_code = nvrtc.getCUBIN(program)
        symbols = {name: nvrtc.getLoweredName(program, name) for name in names}
    finally:
        nvrtc.destroyProgram(program)
    folder.mkdir(parents=True, exist_ok=True)
    _write(code, machine_code)
    _write(table, json.dumps(symbols).encode())
    return Compiled(code, symbols)


def _write(path: Path, content: bytes) -> None:
    """All or nothing, also with several processes at once."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


@cache
def _nvrtc() -> Any:
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy wraps a missing library in classes of its own
        raise ImportError(
            "bbs_kernels: this build has no CUDA library, and compiling the kernels at first use needs CuPy with "
            "NVRTC: `pip install bbs-kernels[cupy]`, or build with nvcc and BBS_CUDA=1"
        ) from error
    return nvrtc
