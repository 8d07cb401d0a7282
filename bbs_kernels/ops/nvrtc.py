"""Compile one kernel with NVRTC, cached on disk. Needs CuPy and its NVRTC, but no GPU, no driver and no toolkit."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .. import _core  # type: ignore[attr-defined]  # compiled

INCLUDE = Path(__file__).resolve().parent.parent / "include" / "cuda"  # installed from csrc by the build
_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return the folder of compiled kernels: $BBS_CACHE_DIR, else bbs_kernels in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("BBS_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bbs_kernels"


@cache
def headers_digest() -> str:
    """Return a digest that changes when any kernel header does."""
    files = sorted(p for p in INCLUDE.parent.rglob("*") if p.suffix in (".h", ".cuh"))
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in files)).hexdigest()


def compile_kernel(symbol: str, arch: int) -> bytes:
    """Return the machine code of one kernel, from the cache if it is there.

    Several processes that ask at once compile it once: the others wait for the file. A file whose content is not what
    was written is compiled anew. Where the folder cannot be written, a warning says so and nothing is kept.

    Args:
        symbol: a name of `_core.cuda_kernels()`.
        arch: compute capability, 90 for 9.0.

    Raises:
        ImportError: CuPy or its NVRTC is missing; the message says what to install.
        RuntimeError: the kernel does not compile; the message carries the compiler's log.
    """
    nvrtc = _nvrtc()
    source = _core.cuda_source([symbol])
    key = repr((source, arch, nvrtc.getVersion(), headers_digest()))
    path = cache_folder() / f"{symbol}.sm_{arch}.{hashlib.sha256(key.encode()).hexdigest()[:24]}.cubin"
    with _only_one(path) as writable:
        if (kept := _read(path)) is not None:
            return kept
        code = _compile(nvrtc, source, symbol, arch)
        if writable:
            _write(path, code)
        return code


def version() -> str | None:
    """Return the version of NVRTC, "13.0", or None where it cannot be used."""
    try:
        return ".".join(map(str, _nvrtc().getVersion()))
    except ImportError:
        return None


def _compile(nvrtc: Any, source: str, symbol: str, arch: int) -> bytes:
    program = nvrtc.createProgram(source, f"{symbol}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"-arch=sm_{arch}", "-std=c++17", "-I", str(INCLUDE)))
        code: bytes = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise RuntimeError(f"bbs_kernels: NVRTC cannot compile {symbol} for sm_{arch}:\n{log}") from error
    finally:
        nvrtc.destroyProgram(program)
    return code


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[bool]:
    """Hold the lock of a cached file over threads and processes; yields whether its folder can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        warnings.warn(
            f"bbs_kernels: compiled kernels are not kept, since {path.parent} cannot be written "
            f"({error.strerror}): set BBS_CACHE_DIR to a folder that can",
            stacklevel=2,
        )
        yield False
        return
    with lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # of this open file: threads exclude each other too; ends with the file
        yield True


def _read(path: Path) -> bytes | None:
    """Return the code in a cached file, or None unless it is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Write all or nothing, also where the lock is none: on a file system that has no locks."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(hashlib.sha256(code).digest() + code)
    Path(file.name).replace(path)


@cache
def _nvrtc() -> Any:
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy wraps a missing library in classes of its own
        raise ImportError(
            "compiling it at first use needs CuPy with NVRTC: `pip install bbs-kernels[cupy]`, or build with nvcc and "
            "BBS_CUDA=1"
        ) from error
    return nvrtc
