"""What a miner's tuple means to a classification loss: a weight per row, by how often the row was mined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def row_weights(indices_tuple: Any, labels: Tensor, dtype: torch.dtype) -> Tensor:
    """[B] weights in [0, 1]: occurrences of each row in the tuple over the largest number of occurrences.

    Triplets (anchors, positives, negatives) and pairs (anchors, positives, anchors, negatives) count alike,
    in every position. None or a tuple of empty tensors means weight 1 for all. The counts are integers, so
    that the sum does not depend on the order, and nothing waits for the device.

    Args:
        indices_tuple: None, or a tuple or list of 1-D integer tensors of row indices.
        labels: [B], for the size and the device.

    Raises:
        TypeError: `indices_tuple` is something else.
    """
    if indices_tuple is None:
        return torch.ones(labels.shape, dtype=dtype, device=labels.device)
    if not isinstance(indices_tuple, (tuple, list)) or not all(_is_index(part) for part in indices_tuple):
        raise TypeError(
            "indices_tuple: expected what a miner returns, a tuple of 1-D index tensors (3 for triplets, 4 for "
            f"pairs), got {type(indices_tuple).__name__}"
        )
    if all(len(part) == 0 for part in indices_tuple):
        return torch.ones(labels.shape, dtype=dtype, device=labels.device)
    rows = torch.cat([part.to(labels.device, torch.int64) for part in indices_tuple])
    counts = torch.zeros_like(labels).scatter_add_(0, rows, torch.ones_like(rows))
    return counts.to(dtype) / counts.max().to(dtype)


def _is_index(part: object) -> bool:
    # An empty tensor may have any dtype: some miners return torch.tensor([]) when they find nothing.
    return isinstance(part, Tensor) and part.dim() == 1 and (len(part) == 0 or not part.is_floating_point())
