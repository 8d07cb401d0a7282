"""What the heads take: each check names the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bbs_kernels.validate import is_integer, is_number

from ..baskets import Baskets


def checked_size(size: Any) -> int:
    """The number of classes of a basket as an int from 0; NumPy's integers are fine."""
    if not is_integer(size) or size < 0:
        raise ValueError(f"size: expected an int >= 0, got {size!r}")
    return int(size)


def check_centres(name: str, dtype: torch.dtype) -> None:
    """The dtype of class centres."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name}: expected float32 or float64, got {dtype}: centres stay in full precision; "
            "16-bit embeddings and autocast are fine"
        )


def check_ignore_index(ignore_index: Any, baskets: Baskets) -> int:
    """`ignore_index` as an int that is no class of `baskets`; NumPy's integers are fine."""
    if not is_integer(ignore_index):
        raise TypeError(f"ignore_index: expected an int, got {ignore_index!r}")
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"ignore_index: expected an int of 64 bits, got {ignore_index}")
    baskets.check_ignore_index(ignore_index)
    return int(ignore_index)


def check_sample_rate(sample_rate: Any, name: str = "sample_rate") -> float:
    """`sample_rate` as a float; `name`: what the caller calls it."""
    if not is_number(sample_rate):
        raise TypeError(f"{name}: expected a number, got {sample_rate!r}")
    if not 0.0 < sample_rate <= 1.0:
        raise ValueError(f"{name}: expected a number in (0, 1], got {sample_rate}")
    return float(sample_rate)


def check_sparse_grad(sparse_grad: Any) -> bool | None:
    """`sparse_grad` as it came."""
    if sparse_grad is not None and not isinstance(sparse_grad, bool):
        raise TypeError(f"sparse_grad: expected True, False or None, got {sparse_grad!r}")
    return sparse_grad


def check_aliases(aliases: Any, classes: int) -> None:
    """[C] int64."""
    if not isinstance(aliases, Tensor) or aliases.dtype != torch.int64:
        raise TypeError(
            f"aliases: expected an int64 tensor [C] or None, got {getattr(aliases, 'dtype', aliases)!r}"
        )
    if aliases.shape != (classes,):
        raise ValueError(f"aliases: expected shape ({classes},), got {tuple(aliases.shape)}")
