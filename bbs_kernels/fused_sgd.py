"""`cos_lse` and `margin_softmax` whose backward spends the gradient of w at once, row by row, as one SGD step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import functional
from ._load import OPS
from .margins import FamilyArguments, FamilyCodes
from .operands import CORE_NAMES, OperandNames
from .ops.placement import on_device


class SgdSettings(NamedTuple):
    """One step of torch.optim.SGD. momentum_buffer: like w, changed in place; None without momentum.

    first_step: the buffer is not filled yet and becomes a copy of the first gradient.
    """

    momentum_buffer: Tensor | None
    first_step: bool
    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool


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
    return _MarginSoftmaxWithSgd.apply(call.x, w, call, functional.checked_family(margin), step)


def _prepare(
    x: Tensor, w: Tensor, *args: Any, names: OperandNames = CORE_NAMES, **kwargs: Any
) -> functional.CoreCall:
    if on_device(w):
        raise ValueError(
            f"{names.w}: expected a tensor on the CPU with FusedSGD, got one on {w.device}: use torch.optim.SGD there"
        )
    return functional.prepare(x, w, *args, names=names, **kwargs)


class _CosLseWithSgd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, call: functional.CoreCall, step: Callable[[], SgdSettings]
    ) -> tuple[Tensor, ...]:
        outputs = call.run(x, w)
        ctx.save_for_backward(x, w, *outputs, call.aliases)  # aliases: torch then sees a change in place
        ctx.call, ctx.step = call, step
        lse, cos_t, mined_idx, mined_cos, _ = outputs
        classes = call.classes_of(mined_idx)
        ctx.mark_non_differentiable(classes, mined_cos)
        return lse, cos_t, classes, mined_cos

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *saved, mined_idx, mined_cos, stash, _ = ctx.saved_tensors
        if not ctx.call.mined_in_lse:
            mined_idx = torch.full_like(mined_idx, -1)
        return _update(ctx, grads[0], grads[1], *saved, mined_idx, mined_cos, stash), None, None, None


class _MarginSoftmaxWithSgd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        call: functional.CoreCall,
        margin: FamilyArguments | FamilyCodes,
        step: Callable[[], SgdSettings],
    ) -> tuple[Tensor, ...]:
        losses, grad_lse, grad_cos_t, *outputs = call.run_margin(x, w, margin)
        ctx.save_for_backward(grad_lse, grad_cos_t, x, w, *outputs, call.aliases)
        ctx.call, ctx.step = call, step
        _, cos_t, mined_idx, mined_cos, _ = outputs
        classes = call.classes_of(mined_idx)
        ctx.mark_non_differentiable(cos_t, classes, mined_cos)
        return losses, cos_t, classes, mined_cos

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_lse, grad_cos_t, *saved, _ = ctx.saved_tensors
        return _update(ctx, grads[0] * grad_lse, grads[0] * grad_cos_t, *saved), None, None, None, None


def _update(
    ctx: Any, grad_lse: Tensor, grad_cos_t: Tensor, x: Tensor, w: Tensor, *outputs: Tensor
) -> Tensor | None:
    """One step on w; `outputs` are those of the op `cos_lse`. Returns dx where it is wanted."""
    if torch.is_grad_enabled():
        raise RuntimeError("the fused step has no second derivative: call backward without create_graph=True")
    need_dx = ctx.needs_input_grad[0]
    dx = step_on_centres(ctx.call, ctx.step(), grad_lse, grad_cos_t, x, w, *outputs, need_dx=need_dx)
    return dx if need_dx else None


def step_on_centres(
    call: functional.CoreCall, settings: SgdSettings, grad_lse: Tensor, grad_cos_t: Tensor, x: Tensor, w: Tensor,
    *outputs: Tensor, need_dx: bool,
) -> Tensor:  # fmt: skip
    """The op `cos_lse_backward_sgd` for `call`: w moves, dx comes back, [0] unless `need_dx`."""
    dx: Tensor = OPS.cos_lse_backward_sgd(
        grad_lse, grad_cos_t, x, w.detach(), call.labels, call.offsets, *outputs, call.guard, call.aliases,
        call.scale, call.rule.rule, call.rule.guard_kind, call.rule.guard_value, call.ignore_index,
        call.class_index, need_dx, settings.momentum_buffer, settings.first_step, settings.lr,
        settings.momentum, settings.dampening, settings.weight_decay, settings.nesterov, call.row_basket,
        call.row_alias, call.subcenters,
    )  # fmt: skip
    # Another graph that was built on the old centres must not run its backward on the new ones.
    torch.autograd.graph.increment_version(w)
    return dx
