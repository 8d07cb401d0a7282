"""Shapes and gradients of the ops: what torch.compile traces and what autograd calls.

The gradient of `cos_lse` is itself an op (`cos_lse_backward`), recomputing cosines by tiles; it has no
gradient of its own. With sampled classes (`class_index`) the gradient of w is sparse: only sampled rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _tensor_scale as _tensor_scale  # defines the overloads
from ._layout import gradient_like, row_gradient, sampled_gradient
from ._load import OPS
from .ops.placement import on_device

_LANES = 16  # rows are packed by 16; the stash holds whole packs


def _result_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _fake_forward(x, w, labels, offsets, k, class_index, stash_bytes, subcenters):
    torch._check(
        x.dim() == 2 and w.dim() == 2,
        lambda: f"x, w: expected [B, D] and [C, D], got {list(x.shape)} and {list(w.shape)}",
    )
    torch._check(x.shape[1] == w.shape[1], lambda: f"x is {tuple(x.shape)}, w is {tuple(w.shape)}: D differs")
    torch._check(
        labels.shape == x.shape[:1], lambda: f"labels is {tuple(labels.shape)}, x is {tuple(x.shape)}"
    )
    rows, baskets = x.shape[0], offsets.shape[0] - 1
    centres = w.shape[0] if class_index is None else class_index.shape[0] * subcenters
    dtype = _result_dtype(x)
    packed = (rows + _LANES - 1) // _LANES * _LANES
    stash = torch.sym_min(stash_bytes // dtype.itemsize, centres * packed) if not on_device(x) else 0
    return (
        x.new_empty((rows,), dtype=dtype),
        x.new_empty((rows,), dtype=dtype),
        labels.new_empty((rows, baskets, k)),
        x.new_empty((rows, baskets, k), dtype=dtype),
        x.new_empty((stash,), dtype=dtype),
    )


@torch.library.register_fake("bbs_kernels::cos_lse")
def _(
    x, w, labels, offsets, guard, aliases, scale, rule, k, skip, guard_kind, guard_value, ignore_index,
    class_index=None, stash_bytes=0, allow_tf32=False, row_basket=None, row_alias=None, mined_in_lse=True,
    workspace_bytes=0, subcenters=1,
):  # fmt: skip
    return _fake_forward(x, w, labels, offsets, k, class_index, stash_bytes, subcenters)


@torch.library.register_fake("bbs_kernels::margin_softmax")
def _(
    x, w, labels, offsets, guard, aliases, scale, rule, k, skip, guard_kind, guard_value, ignore_index,
    m1, m2, m3, boundary, target_grad, class_index=None, stash_bytes=0, allow_tf32=False, workspace_bytes=0,
    subcenters=1,
):  # fmt: skip
    of_rows = (x.new_empty((x.shape[0],), dtype=_result_dtype(x)) for _ in range(3))
    return (*of_rows, *_fake_forward(x, w, labels, offsets, k, class_index, stash_bytes, subcenters))


@torch.library.register_fake("bbs_kernels::cos_lse_backward")
def _(
    grad_lse, grad_cos_t, x, w, labels, offsets, lse, cos_t, mined_idx, mined_cos, stash, guard, aliases, scale,
    rule, guard_kind, guard_value, ignore_index, class_index, need_dx, need_dw, allow_tf32=False, row_basket=None,
    row_alias=None, workspace_bytes=0, subcenters=1,
):  # fmt: skip
    centres = w.shape[0] if class_index is None else class_index.shape[0] * subcenters
    dx = row_gradient(x, row_basket) if need_dx else x.new_empty((0,))
    dw = gradient_like(w, centres) if need_dw else w.new_empty((0,))
    return dx, dw


@torch.library.register_fake("bbs_kernels::cos_lse_backward_sgd")
def _(grad_lse, grad_cos_t, x, *args, **kwargs):
    need_dx = kwargs["need_dx"] if "need_dx" in kwargs else args[16]
    row_basket = args[24] if len(args) > 24 else kwargs.get("row_basket")
    return row_gradient(x, row_basket) if need_dx else x.new_empty((0,))


@torch.library.register_fake("bbs_kernels::target_cos")
def _(x, w, labels, offsets, ignore_index, class_index=None, allow_tf32=False, subcenters=1):
    return x.new_empty((x.shape[0],), dtype=_result_dtype(x))


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    (
        x, w, labels, offsets, guard, aliases, scale, rule, _k, _skip, guard_kind, guard_value, ignore_index,
        class_index, _stash_bytes, allow_tf32, row_basket, row_alias, mined_in_lse, workspace_bytes,
        subcenters,
    ) = inputs  # fmt: skip
    numbers = scale if isinstance(scale, Tensor) else None
    ctx.save_for_backward(
        x, w, labels, offsets, *output, guard, aliases, class_index, row_basket, row_alias, numbers
    )
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)  # or every backward fills a gradient of the stash with zeros
    ctx.arguments = (rule, guard_kind, guard_value, ignore_index)
    ctx.scale = None if numbers is not None else scale
    ctx.allow_tf32, ctx.mined_in_lse, ctx.workspace_bytes = allow_tf32, mined_in_lse, workspace_bytes
    ctx.subcenters = subcenters


def _backward(ctx: Any, grad_lse: Tensor | None, grad_cos_t: Tensor | None, *unused: None) -> tuple:
    *saved, row_basket, row_alias, numbers = ctx.saved_tensors
    lse, cos_t, mined_idx = saved[4:7]
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    grad_cos_t = torch.zeros_like(cos_t) if grad_cos_t is None else grad_cos_t
    if not ctx.mined_in_lse:
        saved[6] = torch.full_like(mined_idx, -1)
    grads = _call_backward(ctx, grad_lse, grad_cos_t, saved, numbers, row_basket, row_alias)
    return (*grads, *(None,) * 19)


def _call_backward(
    ctx: Any,
    grad_lse: Tensor,
    grad_cos_t: Tensor,
    saved: list,
    numbers: Tensor | None,
    row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
) -> tuple:
    """Gradients of x and w. `saved`: x, w, labels, offsets, what cos_lse returned, guard, aliases, class_index;
    numbers: the scale of a call that took it as a tensor."""
    need_dx, need_dw = ctx.needs_input_grad[:2]
    x, w, class_index = *saved[:2], saved[-1]
    scale = ctx.scale if numbers is None else numbers
    dx, dw = OPS.cos_lse_backward(
        grad_lse, grad_cos_t, *saved[:-1], scale, *ctx.arguments, class_index, need_dx, need_dw, ctx.allow_tf32,
        row_basket, row_alias, ctx.workspace_bytes, ctx.subcenters,
    )  # fmt: skip
    return (
        dx.to(x.dtype) if need_dx else None,
        sampled_gradient(dw, class_index, w, ctx.subcenters) if need_dw else None,
    )


for _name in ("cos_lse", "cos_lse.numbers"):
    torch.library.register_autograd(f"bbs_kernels::{_name}", _backward, setup_context=_setup)


def _setup_margin(ctx: Any, inputs: tuple, output: tuple) -> None:
    (
        x, w, labels, offsets, guard, aliases, scale, rule, _k, _skip, guard_kind, guard_value, ignore_index,
        *_margin, class_index, _stash_bytes, allow_tf32, workspace_bytes, subcenters,
    ) = inputs  # fmt: skip
    numbers = scale if isinstance(scale, Tensor) else None
    ctx.save_for_backward(
        *output[1:3], x, w, labels, offsets, *output[3:], guard, aliases, class_index, numbers
    )
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.arguments = (rule, guard_kind, guard_value, ignore_index)
    ctx.scale, ctx.inputs = None if numbers is not None else scale, len(inputs)
    ctx.allow_tf32, ctx.workspace_bytes, ctx.subcenters = allow_tf32, workspace_bytes, subcenters


def _backward_margin(ctx: Any, grad_loss: Tensor | None, *unused: None) -> tuple:
    grad_lse, grad_cos_t, *saved, numbers = ctx.saved_tensors
    if grad_loss is None:
        return (None,) * ctx.inputs
    grads = _call_backward(ctx, grad_loss * grad_lse, grad_loss * grad_cos_t, saved, numbers)
    return (*grads, *(None,) * (ctx.inputs - 2))


for _name in ("margin_softmax", "margin_softmax.numbers"):
    torch.library.register_autograd(f"bbs_kernels::{_name}", _backward_margin, setup_context=_setup_margin)


def _no_second_order(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "bbs_kernels.cos_lse has no second derivative: call backward without create_graph=True, "
        "or use bbs_kernels.reference.cos_lse, which has one"
    )


for _name in ("cos_lse_backward", "cos_lse_backward.numbers"):
    torch.library.register_autograd(f"bbs_kernels::{_name}", _no_second_order)
