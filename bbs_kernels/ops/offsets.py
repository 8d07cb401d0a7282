"""Where a class lies among the offsets, on the labels' device and without a copy in the step.

Offsets stay on the CPU, and a copy of pageable memory may neither be captured into a CUDA graph nor be waited for in
a step. So a device gets each table of offsets once, and keeps it: a graph holds its address. Both look-ups are ops, so
that torch.compile sees one node and never traces the table's copy.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .load import OPS
from .placement import on_device


@cache
def _on_device(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(offsets, dtype=torch.int64, device=device)


def offsets_beside(t: Tensor, offsets: Tensor) -> Tensor:
    """Return `offsets` [K + 1] where `t` is, the same tensor for the same values: read it, never write to it."""
    return _on_device(tuple(offsets.tolist()), t.device) if on_device(t) else offsets


def _basket_of(labels: Tensor, offsets: Tensor) -> Tensor:
    edges = offsets_beside(labels, offsets)
    return torch.bucketize(labels, edges[1:-1].contiguous(), right=True)


def _first_class(basket: Tensor, offsets: Tensor) -> Tensor:
    return offsets_beside(basket, offsets)[basket]


for _op, _body in ((OPS.basket_of, _basket_of), (OPS.first_class, _first_class)):
    torch.library.impl(_op.default.name(), "CompositeExplicitAutograd", _body)
    torch.library.register_fake(_op.default.name(), lambda index, offsets: torch.empty_like(index))
