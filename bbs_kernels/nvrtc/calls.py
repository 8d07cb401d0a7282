"""Tensors to a call as `_core` takes it: what the compiled op bodies do, for CUDA tensors of any origin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _core  # type: ignore[attr-defined]  # compiled
from ..operands import check_operands, check_optional, check_subcenters
from ..rules import GUARD_ROWS

_OPERANDS = {torch.bfloat16: 0, torch.float16: 1}  # Operand of csrc/cuda/plan.h; fp32: 2 as tf32, 3 exact


def matrix(t: Tensor) -> tuple[int, int, int, int, int, int]:
    """Address, rows, columns, strides and bytes of an element."""
    return (t.data_ptr(), t.shape[0], t.shape[1], t.stride(0), t.stride(1), t.element_size())


def address(t: Tensor | None) -> int:
    """Of the data; 0 for None."""
    return 0 if t is None else t.data_ptr()


def packed(x: Tensor, w: Tensor, labels: Tensor, *vectors: Tensor | None) -> tuple[Any, ...]:
    """x and the vectors as the kernels read them: x copied where that is needed or pays beside `w`, contiguous vectors.

    A copy starts on 16 bytes, which a contiguous view may not do.
    """
    return (
        x.clone(memory_format=torch.contiguous_format) if _core.wants_copy(matrix(x), matrix(w)) else x,
        labels.contiguous(),
        *(None if v is None else v.contiguous() for v in vectors),
    )


def check_tensors(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None, *,
    guard_kind: int, subcenters: int, class_index: Tensor | None = None, row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
) -> None:  # fmt: skip
    """Raise TypeError or ValueError unless dtypes, shapes and devices are what the kernels read without asking."""
    if class_index is not None:
        raise ValueError("class_index (Partial FC) came with tensors on CUDA, allowed is None there")
    check_operands(x, w, labels, offsets)
    if x.dtype == torch.float64:
        raise TypeError("x is float64 on CUDA, allowed are float32, float16 and bfloat16")
    rows, classes = (x.shape[0],), (check_subcenters(subcenters, w),)
    if (guard is None) == (guard_kind == GUARD_ROWS):
        raise ValueError(
            f"guard is {'missing' if guard is None else 'given'} with guard_kind {guard_kind}, "
            f"allowed is a tensor exactly with guard_kind {GUARD_ROWS}"
        )
    check_optional("guard", guard, rows, torch.float32, x.device)
    check_optional("aliases", aliases, classes, torch.int64, x.device)
    check_optional("row_basket", row_basket, rows, torch.int64, x.device)
    check_optional("row_alias", row_alias, rows, torch.int64, x.device)


def listed(mined_idx: Tensor) -> int:
    """k of a call, from what its forward returned."""
    if mined_idx.dim() != 3:
        raise ValueError(f"mined_idx has shape {tuple(mined_idx.shape)}, allowed is [B, K, k]")
    return mined_idx.shape[2]


def check_saved(x: Tensor, baskets: int, k: int, **saved: Tensor) -> None:
    """The same for what a backward gets beside: fp32 [B], mined_idx [B, K, k] int64 and mined_cos [B, K, k] fp32."""
    for name, value in saved.items():
        shape = (x.shape[0], baskets, k) if name.startswith("mined") else (x.shape[0],)
        dtype = torch.int64 if name == "mined_idx" else torch.float32
        check_optional(name, value, shape, dtype, x.device)


def centre_offsets(offsets: Tensor, subcenters: int) -> list[int]:
    """The offsets as the kernels have them: rows of w in place of classes."""
    return [offset * subcenters for offset in offsets.tolist()]  # on the CPU


def forward_call(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None, *,
    scale: float, rule: int, k: int, skip: int, guard_kind: int, guard_value: float, ignore_index: int,
    allow_tf32: bool, row_basket: Tensor | None = None, row_alias: Tensor | None = None, mined_in_lse: bool = True,
    subcenters: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """The call of a forward on packed tensors seen by `check_tensors`; see ForwardCall in csrc/cuda/forward_call.h.

    The numbers, strides and offsets in it are checked by whatever of `_core` takes it.
    """
    return {
        "x": matrix(x),
        "w": matrix(w),
        "operand": _OPERANDS.get(x.dtype, 2 if allow_tf32 else 3),
        "labels": address(labels),
        "aliases": address(aliases),
        "guard_rows": address(guard),
        "row_basket": address(row_basket),
        "row_alias": address(row_alias),
        "baskets": offsets.shape[0] - 1,
        "ignore_index": ignore_index,
        "rule": rule,
        "guard_kind": guard_kind,
        "k": k,
        "skip": skip,
        "scale": scale,
        "guard_value": guard_value,
        "mined_in_lse": mined_in_lse,
        "subcenters": subcenters,
    }
