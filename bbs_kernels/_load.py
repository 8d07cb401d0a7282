"""Loads the op libraries that were built next to this file, once, and says plainly when there are none.

Every module that calls an op takes `OPS` from here, so that the library is loaded whatever is imported first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ._not_built import not_built

_HERE = Path(__file__).resolve().parent
CPU_LIBRARY = _HERE / "libbbs_cpu.so"
CUDA_LIBRARY = _HERE / "libbbs_cuda.so"


def has_cuda_library() -> bool:
    """Whether the CUDA ops are those that were compiled with the package; it needs a CUDA build of torch to load."""
    return CUDA_LIBRARY.exists() and torch.version.cuda is not None


def _load() -> Any:
    """Register the ops; returns their namespace, `torch.ops.bbs_kernels`.

    Raises:
        ImportError: the package was imported from a source tree whose libraries were never built.
    """
    if not CPU_LIBRARY.exists():
        raise ImportError(not_built(_HERE)) from None
    torch.ops.load_library(str(CPU_LIBRARY))
    if has_cuda_library():
        torch.ops.load_library(str(CUDA_LIBRARY))
    return torch.ops.bbs_kernels


OPS = _load()
