"""The layout of gradients, which the ops and their fake versions agree on."""

from __future__ import annotations

import torch
from torch import Tensor


def row_gradient(x: Tensor, row_basket: Tensor | None) -> Tensor:
    """An empty gradient of `x`; on a shard one of several partial sums, which are rounded when they are added up."""
    if row_basket is not None:
        return x.new_empty(x.shape, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    return gradient_like(x, x.shape[0])


def gradient_like(t: Tensor, rows: int | torch.SymInt) -> Tensor:
    """An empty gradient [rows, D] in the layout of `t`: a transposed [D, C] parameter gets a transposed one.

    What is transposed is what the kernels read so: `is_transposed` of csrc/common/layout.h.
    """
    transposed = t.stride(1) != 1 and t.stride(0) == 1
    return t.new_empty((t.shape[1], rows)).t() if transposed else t.new_empty((rows, t.shape[1]))


def sampled_gradient(dw: Tensor, class_index: Tensor | None, w: Tensor, subcenters: int = 1) -> Tensor:
    """The gradient of `w` from what the ops return: sparse where only `class_index` took part (Partial FC)."""
    if class_index is None:
        return dw
    rows = class_index
    if subcenters > 1:
        rows = (rows[:, None] * subcenters + torch.arange(subcenters, device=rows.device)).flatten()
    return torch.sparse_coo_tensor(rows[None], dw, w.shape, is_coalesced=True, check_invariants=False)
