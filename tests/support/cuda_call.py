"""A call as `_core.plan_forward` and `_core.plan_backward` take it, of tensors whose memory nobody reads."""

from __future__ import annotations

from typing import Any

import torch

OPERANDS = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 3}
NUMBERS = {
    "scale": 64.0, "rule": 3, "k": 5, "skip": 1, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
}  # fmt: skip
OWN = {"rule": 1, "k": 0, "skip": 0}  # without mining
MEMORY = dict.fromkeys(
    ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos", "workspace"), 0
)


def matrix(t: torch.Tensor) -> tuple[int, int, int, int, int, int]:
    address = 0 if t.is_meta else t.data_ptr()
    return address, t.size(0), t.size(1), t.stride(0), t.stride(1), t.element_size()


def call_of(x: torch.Tensor, w: torch.Tensor, baskets: int = 1, **changed: Any) -> dict[str, Any]:
    """`changed`: of NUMBERS, and subcenters."""
    given = {"x": matrix(x), "w": matrix(w), "operand": OPERANDS[x.dtype], "baskets": baskets}
    return {**given, **dict.fromkeys(("labels", "aliases", "guard_rows"), 0), **NUMBERS, **changed}


def meta(
    shape: tuple[int, int], strides: tuple[int, int] | None = None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """A size that no machine holds: only shape, strides and dtype matter."""
    if strides is None:
        return torch.empty(shape, device="meta", dtype=dtype)
    return torch.empty_strided(shape, strides, device="meta", dtype=dtype)
