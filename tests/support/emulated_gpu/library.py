"""Compiles the op library's own sources with the test's seams into a library that no wheel holds, and loads it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
CSRC = ROOT / "csrc"
CACHE = Path(os.environ.get("BBS_PTX_CACHE") or Path(tempfile.gettempdir()) / "bbs-ptx-cache")
SOURCES = (
    Path(__file__).with_name("host_ops.cpp"),
    *(CSRC / "cuda" / "runtime" / name for name in ("context.cpp", "device.cpp", "driver.cpp", "launch.cpp")),
    *(CSRC / "torch" / name for name in ("accelerator.cpp", "cuda_ops.cpp")),
)
ABI = "TORCH_TARGET_VERSION=0x020a000000000000"  # as CMakeLists.txt has it


@functools.cache
def host_digest() -> str:
    """Changes with any source of the host side."""
    folders = (CSRC / "common", CSRC / "cuda", CSRC / "torch", Path(__file__).parent)
    files = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix in (".h", ".cpp"))
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in files)).hexdigest()[:16]


def build(csrc: Path = CSRC, name: str | None = None) -> Path:
    """Compile the library from `csrc` and return its path. Built once for the same sources and torch."""
    path = CACHE / f"host-ops-{name or host_digest()}-{torch.__version__}.so"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    place = Path(torch.__file__).parent
    sources = [csrc / s.relative_to(CSRC) if s.is_relative_to(CSRC) else s for s in SOURCES]
    made = path.with_suffix(f".{os.getpid()}")
    command = [
        os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", f"-D{ABI}",
        "-isystem", place / "include", "-I", csrc / "torch", *sources, f"-L{place / 'lib'}", "-ltorch_cpu", "-ldl",
        "-pthread", "-Wl,-z,defs", "-o", made,
    ]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True)
    made.rename(path)
    return path


def load(path: Path | None = None) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path or build()), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    library.bbs_test_driver_functions.restype = ctypes.c_char_p
    library.bbs_test_use.argtypes = [ctypes.c_void_p] * 3
    library.bbs_test_use_machine.argtypes = [ctypes.c_void_p]
    for name in ("bbs_test_register", "bbs_test_register_report"):
        getattr(library, name).restype = ctypes.c_void_p
    library.bbs_test_take_back.argtypes = [ctypes.c_void_p]
    return library
