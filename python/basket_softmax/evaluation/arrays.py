"""Inputs of the metrics: torch tensors, NumPy arrays or lists."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def as_vector(name: str, values: Any) -> Tensor:
    """`values` as a 1-d tensor on the CPU, detached; ValueError otherwise."""
    tensor = torch.as_tensor(values, device="cpu").detach()
    if tensor.dim() != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {tuple(tensor.shape)}")
    return tensor


def as_scores(name: str, values: Any, rows: int, columns: int) -> Tensor:
    """`values` as a finite [rows, columns] tensor; ValueError otherwise."""
    tensor = torch.as_tensor(values, device="cpu").detach()
    if tuple(tensor.shape) != (rows, columns):
        raise ValueError(f"{name}: expected shape ({rows}, {columns}), got {tuple(tensor.shape)}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name}: expected finite similarities, got NaN or Inf")
    return tensor
