"""Loads the op libraries that were built next to this file, once, and says plainly when there are none.

Every module that calls an op takes `OPS` from here, so that the library is loaded whatever is imported first.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch

from .._not_built import not_built

_HERE = Path(__file__).resolve().parents[1]
CPU_LIBRARY = _HERE / "libbbs_cpu.so"
CUDA_LIBRARY = _HERE / "libbbs_cuda.so"
CUDA_OPS = ("cos_lse", "margin_softmax", "cos_lse_backward", "target_cos")


def _load() -> Any:
    """Register the ops; returns their namespace, `torch.ops.bbs_kernels`.

    Raises:
        ImportError: the package was imported from a source tree whose libraries were never built.
    """
    if not CPU_LIBRARY.exists():
        raise ImportError(not_built(_HERE)) from None
    torch.ops.load_library(str(CPU_LIBRARY))
    try:
        torch.ops.load_library(str(CUDA_LIBRARY))
        _connect_images()
    except OSError as error:
        _refuse_cuda(str(error))
    return torch.ops.bbs_kernels


def _connect_images() -> None:
    """Tell the CUDA library where the images of its kernels come from."""
    from .images import provider

    ctypes.CDLL(str(CUDA_LIBRARY)).bbs_cuda_use_images(provider)


def _refuse_cuda(reason: str) -> None:
    """Let a CUDA library that does not load take only CUDA away: its ops then say why."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"bbs_kernels: a tensor is on CUDA, and {CUDA_LIBRARY.name} cannot be loaded ({reason}): install "
            "bbs-kernels again beside this torch"
        )

    for op in CUDA_OPS:
        torch.library.impl(f"bbs_kernels::{op}", "CUDA", refuse)
    torch.library.impl("bbs_kernels::check_labels", "CompositeExplicitAutograd", lambda: None)


OPS = _load()
