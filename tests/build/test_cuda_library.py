"""The CUDA op library on a machine without a GPU: it links, and registers the CUDA ops."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bbs_kernels._load import CPU_LIBRARY, CUDA_LIBRARY

pytestmark = pytest.mark.skipif(not CUDA_LIBRARY.exists(), reason="built without CUDA")

OPS = ["cos_lse", "cos_lse_backward", "target_cos"]
# Under a CPU build of torch one symbol is missing, the current stream; nothing calls it here.
LOAD = f"""
import ctypes, os, torch
torch.ops.load_library({str(CPU_LIBRARY)!r})
ctypes.CDLL({str(CUDA_LIBRARY)!r}, mode=os.RTLD_LAZY)
for op in {OPS!r}:
    print(op, torch._C._dispatch_has_kernel_for_dispatch_key("bbs_kernels::" + op, "CUDA"))
print("take_bad_label", torch.ops.bbs_kernels.take_bad_label().tolist())
"""


def test_ops_are_registered_for_cuda() -> None:
    run = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = [*(f"{op} True" for op in OPS), f"take_bad_label [{2**63 - 1}, 0]"]
    assert run.stdout.splitlines() == expected
