"""Where a class lies among the offsets, on the labels' device and without a copy in the step.

Offsets stay on the CPU, and a copy of pageable memory may neither be captured into a CUDA graph nor be waited for in
a step. So a device gets each table of offsets once, and keeps it: a graph holds its address. Both look-ups are ops, so
that torch.compile sees one node and never traces the table's copy.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from . import _load as _load  # defines the ops


@cache
def _on_device(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(offsets, dtype=torch.int64, device=device)


def on_device(offsets: Tensor, device: torch.device) -> Tensor:
    """`offsets` [K + 1] on `device`, the same tensor for the same values: read it, never write to it."""
    return offsets if device.type == "cpu" else _on_device(tuple(offsets.tolist()), device)


def _basket_of(labels: Tensor, offsets: Tensor) -> Tensor:
    edges = on_device(offsets, labels.device)
    return torch.bucketize(labels, edges[1:-1].contiguous(), right=True)


def _first_class(basket: Tensor, offsets: Tensor) -> Tensor:
    return on_device(offsets, basket.device)[basket]


for _name, _body in (("basket_of", _basket_of), ("first_class", _first_class)):
    torch.library.impl(f"bbs_kernels::{_name}", "CompositeExplicitAutograd", _body)
    torch.library.register_fake(f"bbs_kernels::{_name}", lambda index, offsets: torch.empty_like(index))
