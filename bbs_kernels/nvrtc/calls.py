"""Tensors to a call as `_core` takes it: what the compiled op bodies do, for CUDA tensors of any origin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_OPERANDS = {torch.bfloat16: 0, torch.float16: 1}  # Operand of csrc/cuda/plan.h; fp32: 2 as tf32, 3 exact
MAX_BASKETS = 4096
MAX_STRIDE = 1 << 27


def matrix(t: Tensor) -> tuple[int, int, int, int, int, int]:
    """Address, rows, columns, strides and bytes of an element."""
    return (t.data_ptr(), t.shape[0], t.shape[1], t.stride(0), t.stride(1), t.element_size())


def address(t: Tensor | None) -> int:
    """Of the data; 0 for None."""
    return 0 if t is None else t.data_ptr()


def packed(x: Tensor, labels: Tensor, *vectors: Tensor | None) -> tuple[Any, ...]:
    """The small inputs as the kernels read them: x with unit stride along D, the vectors contiguous."""
    return (
        x if x.stride(1) == 1 else x.contiguous(),
        labels.contiguous(),
        *(None if v is None else v.contiguous() for v in vectors),
    )


def centre_offsets(offsets: Tensor, subcenters: int) -> list[int]:
    """The offsets as the kernels have them: rows of w in place of classes."""
    return [offset * subcenters for offset in offsets.tolist()]  # on the CPU


def forward_call(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None, *,
    scale: float, rule: int, k: int, skip: int, guard_kind: int, guard_value: float, ignore_index: int,
    allow_tf32: bool, row_basket: Tensor | None = None, row_alias: Tensor | None = None, mined_in_lse: bool = True,
    subcenters: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """The call of a forward on packed tensors; see ForwardCall in csrc/cuda/forward_call.h.

    Raises:
        ValueError, TypeError: what the CUDA kernels do not take; the message says what they do.
    """
    if x.dtype == torch.float64:
        raise TypeError("x is float64 on CUDA, allowed are float32, float16 and bfloat16")
    if w.stride(1) != 1 and w.stride(0) != 1 and w.shape[1] != 1:
        raise ValueError(
            f"w has strides {tuple(w.stride())} on CUDA, allowed is a stride of 1 along the classes or along D: "
            "pass w.contiguous()"
        )
    if max(w.stride()) >= MAX_STRIDE:
        raise ValueError(f"w has a stride of {max(w.stride())} elements on CUDA, allowed are fewer than 2^27")
    baskets = offsets.shape[0] - 1
    if baskets > MAX_BASKETS:
        raise ValueError(f"offsets has {baskets} baskets, allowed are {MAX_BASKETS} on CUDA")
    return {
        "x": matrix(x),
        "w": matrix(w),
        "operand": _OPERANDS.get(x.dtype, 2 if allow_tf32 else 3),
        "labels": address(labels),
        "aliases": address(aliases),
        "guard_rows": address(guard),
        "row_basket": address(row_basket),
        "row_alias": address(row_alias),
        "baskets": baskets,
        "ignore_index": ignore_index,
        "rule": rule,
        "guard_kind": guard_kind,
        "k": k,
        "skip": skip if k > 0 else 0,
        "scale": scale,
        "guard_value": guard_value,
        "mined_in_lse": mined_in_lse,
        "subcenters": subcenters,
    }
