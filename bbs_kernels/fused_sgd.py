"""`cos_lse` and `margin_softmax` whose backward spends the gradient of w at once, row by row, as one SGD step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .functional import checked_family
from .margins import FamilyArguments, FamilyCodes
from .ops.call import CoreCall, CoreOutputs, SgdSettings
from .ops.placement import on_device
from .ops.prepare import prepare
from .validate import CORE_NAMES, OperandNames


def cos_lse_with_sgd(
    x: Tensor, w: Tensor, *args: Any, step: Callable[[], SgdSettings], **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`functional.cos_lse` with the same arguments and results; w moves when backward runs.

    Args:
        step: called once by backward, right before the update; returns the settings to use.

    `w` must require grad, so that backward reaches this node even when `x` is a constant; w.grad stays None.
    """
    call = _prepare(x, w, *args, **kwargs)
    return _CosLseWithSgd.apply(call.x, w, call, step)


def margin_softmax_with_sgd(
    x: Tensor, w: Tensor, *args: Any, margin: Any, step: Callable[[], SgdSettings], **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`functional.margin_softmax` in the same way."""
    call = _prepare(x, w, *args, **kwargs)
    return _MarginSoftmaxWithSgd.apply(call.x, w, call, checked_family(margin), step)


def _prepare(x: Tensor, w: Tensor, *args: Any, names: OperandNames = CORE_NAMES, **kwargs: Any) -> CoreCall:
    if on_device(w):
        raise ValueError(
            f"{names.w}: expected a tensor on the CPU with FusedSGD, got one on {w.device}: use torch.optim.SGD there"
        )
    return prepare(x, w, *args, names=names, **kwargs)


class _CosLseWithSgd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, call: CoreCall, step: Callable[[], SgdSettings]
    ) -> tuple[Tensor, ...]:
        outputs = call.forward(x, w)
        # The call has x and the aliases; saved as well, so that torch sees a change in place.
        ctx.save_for_backward(w, *outputs, x, call.aliases)
        ctx.call, ctx.step = call, step
        classes = call.classes_of(outputs.mined_idx)
        ctx.mark_non_differentiable(classes, outputs.mined_cos)
        return outputs.lse, outputs.cos_t, classes, outputs.mined_cos

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, *outputs, _, _ = ctx.saved_tensors
        return _update(ctx, grads[0], grads[1], w, CoreOutputs(*outputs)), None, None, None


class _MarginSoftmaxWithSgd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        call: CoreCall,
        margin: FamilyArguments | FamilyCodes,
        step: Callable[[], SgdSettings],
    ) -> tuple[Tensor, ...]:
        losses, grad_lse, grad_cos_t, outputs = call.forward_margin(x, w, margin)
        ctx.save_for_backward(grad_lse, grad_cos_t, w, *outputs, x, call.aliases)
        ctx.call, ctx.step = call, step
        classes = call.classes_of(outputs.mined_idx)
        ctx.mark_non_differentiable(outputs.cos_t, classes, outputs.mined_cos)
        return losses, outputs.cos_t, classes, outputs.mined_cos

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_lse, grad_cos_t, w, *outputs, _, _ = ctx.saved_tensors
        dx = _update(ctx, grads[0] * grad_lse, grads[0] * grad_cos_t, w, CoreOutputs(*outputs))
        return dx, None, None, None, None


def _update(ctx: Any, grad_lse: Tensor, grad_cos_t: Tensor, w: Tensor, outputs: CoreOutputs) -> Tensor | None:
    """One step on w. Returns dx where it is wanted."""
    if torch.is_grad_enabled():
        raise RuntimeError("the fused step has no second derivative: call backward without create_graph=True")
    call, need_dx = ctx.call, ctx.needs_input_grad[0]
    dx = step_on_centres(call, ctx.step(), grad_lse, grad_cos_t, w, call.in_lse(outputs), need_dx)
    return dx if need_dx else None


def step_on_centres(
    call: CoreCall, settings: SgdSettings, grad_lse: Tensor, grad_cos_t: Tensor, w: Tensor, outputs: CoreOutputs,
    need_dx: bool,
) -> Tensor:  # fmt: skip
    """Move w by one step; return dx, [0] unless `need_dx`."""
    dx = call.backward_sgd(grad_lse, grad_cos_t, w.detach(), outputs, need_dx, settings)
    # Another graph that was built on the old centres must not run its backward on the new ones.
    torch.autograd.graph.increment_version(w)
    return dx
