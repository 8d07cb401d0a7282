"""Gradients of the ops: what autograd calls.

The gradient of `cos_lse` is itself an op (`cos_lse_backward`), recomputing cosines by tiles; it has no
gradient of its own. With sampled classes (`class_index`) the gradient of w is sparse: only sampled rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .call import CoreCall, CoreOutputs
from .layout import sampled_gradient
from .load import OPS
from .tensor_scale import OVERLOAD


def _save(ctx: Any, op: Any, inputs: tuple, outputs: tuple, gradients: tuple = ()) -> None:
    """Keep the call for backward; `gradients`: of the losses, by lse and cos_t, where forward has them."""
    w, call = CoreCall.of_op(op, inputs)
    tensors, ctx.call = call.without_tensors()
    ctx.save_for_backward(*gradients, w, *outputs, *tensors)
    ctx.set_materialize_grads(False)  # or every backward fills a gradient of the stash with zeros
    ctx.inputs = len(inputs)


def _gradients(ctx: Any, grad_lse: Tensor, grad_cos_t: Tensor, saved: list) -> tuple[Tensor | None, ...]:
    """The gradients of all inputs, those of x and w first. `saved`: as `_save` keeps it, from w on."""
    need_dx, need_dw = ctx.needs_input_grad[:2]
    w, count = saved[0], len(CoreOutputs._fields)
    call = ctx.call.with_tensors(saved[1 + count :])
    outputs = call.in_lse(CoreOutputs(*saved[1 : 1 + count]))
    dx, dw = call.backward(grad_lse, grad_cos_t, w, outputs, need_dx, need_dw)
    return (
        dx.to(call.x.dtype) if need_dx else None,
        sampled_gradient(dw, call.class_index, w, call.subcenters) if need_dw else None,
        *(None,) * (ctx.inputs - 2),
    )


def _setup(op: Any, ctx: Any, inputs: tuple, output: tuple) -> None:
    _save(ctx, op, inputs, output)
    ctx.mark_non_differentiable(*output[2:])


def _backward(ctx: Any, grad_lse: Tensor | None, grad_cos_t: Tensor | None, *unused: None) -> tuple:
    saved = ctx.saved_tensors
    lse, cos_t = saved[1:3]
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    grad_cos_t = torch.zeros_like(cos_t) if grad_cos_t is None else grad_cos_t
    return _gradients(ctx, grad_lse, grad_cos_t, saved)


def _setup_margin(op: Any, ctx: Any, inputs: tuple, output: tuple) -> None:
    _save(ctx, op, inputs, output[3:], gradients=output[1:3])
    ctx.mark_non_differentiable(*output[1:])


def _backward_margin(ctx: Any, grad_loss: Tensor | None, *unused: None) -> tuple:
    grad_lse, grad_cos_t, *saved = ctx.saved_tensors
    if grad_loss is None:
        return (None,) * ctx.inputs
    return _gradients(ctx, grad_loss * grad_lse, grad_loss * grad_cos_t, saved)


def _no_second_order(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "bbs_kernels.cos_lse has no second derivative: call backward without create_graph=True, "
        "or use bbs_kernels.reference.cos_lse, which has one"
    )


for _op, _forward_saves, _goes_back in (
    (OPS.cos_lse, _setup, _backward),
    (OPS.margin_softmax, _setup_margin, _backward_margin),
):
    for _overload in (_op.default, getattr(_op, OVERLOAD)):
        torch.library.register_autograd(
            _overload.name(), _goes_back, setup_context=partial(_forward_saves, _overload)
        )
for _overload in (OPS.cos_lse_backward.default, getattr(OPS.cos_lse_backward, OVERLOAD)):
    torch.library.register_autograd(_overload.name(), _no_second_order)
