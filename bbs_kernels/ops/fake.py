"""Shapes of the ops' outputs, for torch.compile and fake tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .call import arguments_of
from .layout import gradient_like, row_gradient
from .load import OPS
from .placement import on_device

_LANES = 16  # rows are packed by 16; the stash holds whole packs


def _result_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _centres(given: dict[str, Any]) -> int | torch.SymInt:
    """Return how many rows of w take part."""
    w, class_index = given["w"], given["class_index"]
    return w.shape[0] if class_index is None else class_index.shape[0] * given["subcenters"]


def _of_rows(given: dict[str, Any]) -> Tensor:
    x = given["x"]
    return x.new_empty((x.shape[0],), dtype=_result_dtype(x))


def _forward(given: dict[str, Any]) -> tuple[Tensor, ...]:
    x, w, labels = given["x"], given["w"], given["labels"]
    torch._check(
        x.dim() == 2 and w.dim() == 2,
        lambda: f"x, w: expected [B, D] and [C, D], got {list(x.shape)} and {list(w.shape)}",
    )
    torch._check(x.shape[1] == w.shape[1], lambda: f"x is {tuple(x.shape)}, w is {tuple(w.shape)}: D differs")
    torch._check(
        labels.shape == x.shape[:1], lambda: f"labels is {tuple(labels.shape)}, x is {tuple(x.shape)}"
    )
    rows, baskets, k = x.shape[0], given["offsets"].shape[0] - 1, given["k"]
    dtype = _result_dtype(x)
    packed = (rows + _LANES - 1) // _LANES * _LANES
    budget = given["stash_bytes"] // dtype.itemsize
    stash = torch.sym_min(budget, _centres(given) * packed) if not on_device(x) else 0
    return (
        _of_rows(given),
        _of_rows(given),
        labels.new_empty((rows, baskets, k)),
        x.new_empty((rows, baskets, k), dtype=dtype),
        x.new_empty((stash,), dtype=dtype),
    )


def _margin(given: dict[str, Any]) -> tuple[Tensor, ...]:
    return _of_rows(given), _of_rows(given), _of_rows(given), *_forward(given)


def _dx(given: dict[str, Any]) -> Tensor:
    x = given["x"]
    return row_gradient(x, given["row_basket"]) if given["need_dx"] else x.new_empty((0,))


def _backward(given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    w = given["w"]
    return _dx(given), gradient_like(w, _centres(given)) if given["need_dw"] else w.new_empty((0,))


def _register(op: Any, shapes: Callable[[dict[str, Any]], Any]) -> None:
    def fake(*args: Any, **kwargs: Any) -> Any:
        return shapes(arguments_of(op, args, kwargs))

    torch.library.register_fake(op.name(), fake)


for _op, _shapes in (
    (OPS.cos_lse, _forward),
    (OPS.margin_softmax, _margin),
    (OPS.cos_lse_backward, _backward),
    (OPS.cos_lse_backward_sgd, _dx),
    (OPS.target_cos, _of_rows),
):
    _register(_op.default, _shapes)
