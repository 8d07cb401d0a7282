"""The CUDA op library on a machine without a GPU: it links, and registers the CUDA ops."""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

from bbs_kernels._load import CUDA_LIBRARY

pytestmark = pytest.mark.skipif(not CUDA_LIBRARY.exists(), reason="built without CUDA")


@pytest.mark.parametrize("op", ["cos_lse", "target_cos"])
def test_ops_are_registered_for_cuda(op: str) -> None:
    """Under a CPU build of torch one symbol is missing, the current stream; nothing calls it here."""
    ctypes.CDLL(str(CUDA_LIBRARY), mode=os.RTLD_LAZY)
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"bbs_kernels::{op}", "CUDA")
