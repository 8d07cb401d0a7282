"""Partial FC's sample of classes: those of the batch and others drawn uniformly, as a sorted index list.

Source: An et al., "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs
by Partial FC", CVPR 2022.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sample_classes(labels: Tensor, num_classes: int, rate: float, ignore_index: int) -> Tensor:
    """[S] int64, ascending, S = max(ceil(rate * C), min(B, C)): a fixed size, so nothing waits for the device.

    Args:
        labels: [B] int64 global classes or `ignore_index`; labels out of range are left to the op to report.
        num_classes: C.
        rate: share of the classes, in (0, 1].
    """
    size = max(math.ceil(rate * num_classes), min(labels.shape[0], num_classes))
    score = torch.rand(num_classes + 1, device=labels.device, dtype=torch.float32)
    inside = (labels != ignore_index) & (labels >= 0) & (labels < num_classes)
    score.index_fill_(0, torch.where(inside, labels, num_classes), 2.0)  # above every draw
    return score[:-1].topk(size, sorted=False).indices.sort().values
