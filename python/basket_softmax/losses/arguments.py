"""What the heads take: each check names the argument, what came and what is allowed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bbs_kernels.operands import MAX_SUBCENTERS
from bbs_kernels.scalars import is_integer, is_number

from ..baskets import Baskets


def positive_int(name: str, value: Any) -> int:
    """`value` as an int; NumPy's integers are fine."""
    if not is_integer(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}, allowed is a positive int")
    return int(value)


def checked_size(size: Any) -> int:
    """The number of classes of a basket as an int, 0 allowed; NumPy's integers are fine."""
    if not is_integer(size) or size < 0:
        raise ValueError(f"size is {size!r}, allowed is an int >= 0")
    return int(size)


def check_subcenters(subcenters: Any) -> int:
    """`subcenters` as an int from 1 to 16."""
    if not is_integer(subcenters):
        raise TypeError(f"subcenters must be an int, got {subcenters!r}")
    if not 1 <= int(subcenters) <= MAX_SUBCENTERS:
        raise ValueError(f"subcenters is {subcenters}, allowed are 1 to {MAX_SUBCENTERS}")
    return int(subcenters)


def check_centres(name: str, dtype: torch.dtype) -> None:
    """The dtype of class centres."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name} is {dtype}, allowed are float32 and float64: centres stay in full precision; "
            "16-bit embeddings and autocast are fine"
        )


def check_ignore_index(ignore_index: Any, baskets: Baskets) -> int:
    """`ignore_index` as an int that is no class of `baskets`; NumPy's integers are fine."""
    if not is_integer(ignore_index):
        raise TypeError(f"ignore_index must be an int, got {ignore_index!r}")
    baskets.check_ignore_index(ignore_index)
    return int(ignore_index)


def check_sample_rate(sample_rate: Any) -> float:
    """`sample_rate` as a float."""
    if not is_number(sample_rate):
        raise TypeError(f"sample_rate must be a number, got {sample_rate!r}")
    if not 0.0 < sample_rate <= 1.0:
        raise ValueError(f"sample_rate is {sample_rate}, allowed is (0, 1]")
    return float(sample_rate)


def check_sparse_grad(sparse_grad: Any) -> bool | None:
    """`sparse_grad` as it came."""
    if sparse_grad is not None and not isinstance(sparse_grad, bool):
        raise TypeError(f"sparse_grad must be True, False or None, got {sparse_grad!r}")
    return sparse_grad


def check_aliases(aliases: Any, classes: int) -> None:
    """[C] int64."""
    if not isinstance(aliases, Tensor) or aliases.dtype != torch.int64:
        raise TypeError(
            f"aliases must be an int64 tensor [C] or None, got {getattr(aliases, 'dtype', aliases)!r}"
        )
    if aliases.shape != (classes,):
        raise ValueError(f"aliases has shape {tuple(aliases.shape)}, allowed is ({classes},)")
