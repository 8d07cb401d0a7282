"""The CUDA op library as it is shipped, on a machine without a GPU: it loads with every symbol resolved, registers the
ops, and does nothing before the first tensor on CUDA."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from bbs_kernels.ops.load import CPU_LIBRARY, CUDA_LIBRARY, CUDA_OPS

# In a process of its own, without the package's Python.
LOAD = f"""
import ctypes, os, torch
torch.ops.load_library({str(CPU_LIBRARY)!r})
cuda = ctypes.CDLL({str(CUDA_LIBRARY)!r}, mode=os.RTLD_NOW)
"""
REGISTERED = f"""
for op in {CUDA_OPS!r}:
    print(op, torch._C._dispatch_has_kernel_for_dispatch_key("bbs_kernels::" + op, "CUDA"))
"""
NOTHING_IS_PENDING = """
import bbs_kernels
bbs_kernels.check()
maps = open("/proc/self/maps").read()
print("libcuda.so" in maps, torch.cuda.is_initialized())
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOAD + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_loads_whole_and_registers_the_ops() -> None:
    assert run(REGISTERED) == [f"{op} True" for op in CUDA_OPS]


def test_check_needs_no_driver() -> None:
    assert run(NOTHING_IS_PENDING) == ["False False"]


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf not found")
def test_it_needs_neither_the_driver_nor_the_cuda_runtime() -> None:
    """With one of these it would not load beside a CPU build of torch."""
    shown = subprocess.run(["readelf", "-d", str(CUDA_LIBRARY)], capture_output=True, text=True, check=True)
    needed = re.findall(r"\(NEEDED\).*\[(\S+)\]", shown.stdout)
    assert "libtorch_cpu.so" in needed
    assert not [name for name in needed if "cuda" in name or name.startswith(("libnv", "libtorch_python"))]
