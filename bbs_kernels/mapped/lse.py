"""`cos_lse` with f(c_ij) in place of c_ij: log of the sum over N_i of exp(s * f(c_ij)), for any elementwise f.

The kernels have no hook for f, so this is plain torch over blocks of classes: the kernels find the target cosines, the
mined classes and the rows that met a NaN; then one pass here adds up the blocks, and backward recomputes each. Never
more than a block of cosines is held. Costs a dense product with the batch in forward and three in backward: of the
classes of the row's own basket, and of all others under `All` and `Below`. On other devices than the CPU, where rows
are not sorted out by basket and mined pairs not gathered, of all classes under every rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..margins.negative_map import NegativeMap, checked_map
from ..normalize import gradient_through_norm, normalize
from ..ops.layout import sampled_gradient
from ..ops.prepare import prepare
from .blocks import Blocks


@torch.compiler.disable
def cos_lse(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    negatives: Callable[[Tensor], NegativeMap],
    **arguments: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`functional.cos_lse` of mapped negatives.

    Args:
        x, w, labels, offsets, **arguments: as for `functional.cos_lse`, but for those of a shard; no sub-centres.
        negatives: from the detached target cosines [B] to the map; called once.

    Returns:
        lse [B], of the mapped negatives; cos_t, mined_idx and mined_cos as from `functional.cos_lse`. Gradients flow
        through lse, to `x`, `w` and the map's parameters, and through cos_t.

    Raises:
        TypeError, ValueError, RuntimeError: as `functional.cos_lse`, and for what is no `NegativeMap`.
    """
    subcenters = arguments.pop("subcenters", 1)
    if subcenters != 1:
        raise ValueError(f"subcenters: expected 1 with a margin that changes the negatives, got {subcenters}")
    scale = arguments.pop("scale")
    if isinstance(scale, Tensor):
        scale = float(scale[0])
    call = prepare(x, w, labels, offsets, scale=scale, **arguments)
    with torch.no_grad():
        found, cos_t, mined_idx, mined_cos, _ = call._replace(stash_bytes=0).forward(
            call.x.detach(), w.detach()
        )
    with torch.autocast(x.device.type, enabled=False):
        mapping = checked_map(negatives(cos_t), cos_t)
        blocks = Blocks(call, mapping.function, cos_t, found.isnan(), mined_idx)
        lse, cos_t = _MappedLse.apply(blocks, call.x, w, *mapping.parameters)
    return lse, cos_t, mined_idx, mined_cos


class _MappedLse(torch.autograd.Function):
    """lse and cos_t [B] from (blocks, x, w, *parameters)."""

    @staticmethod
    def forward(ctx: Any, blocks: Blocks, x: Tensor, w: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        dtype = blocks.cos_t.dtype
        x_hat, _ = normalize(x.to(dtype))
        top = x_hat.new_full((len(x),), -torch.inf)
        total = x_hat.new_zeros((len(x),), dtype=torch.float64)
        for first, last in blocks.ranges(x, blocks.count(w)):
            rows = blocks.rows(first, last)
            w_hat, _ = normalize(blocks.centres(w, x, slice(first, last)))
            cos = x_hat[rows] @ w_hat.t()
            negative = blocks.negatives(cos, rows, first, last)
            z = blocks.scale * blocks.function(cos, *(p[rows, None] for p in parameters))
            z = torch.where(negative, z, -torch.inf)
            before = top[rows]
            now = torch.maximum(before, z.amax(dim=1))
            safe = torch.where(now.isinf(), 0.0, now)  # or inf - inf would be NaN
            part = torch.exp(z - safe[:, None]).sum(dim=1, dtype=torch.float64)
            total[rows] = total[rows] * torch.exp((before - safe).double()) + part
            top[rows] = now
        if blocks.pairs is not None:
            top, total = blocks.pairs.add_to(
                top, total, x_hat, lambda at: blocks.centres(w, x, at), list(parameters)
            )
        # total == 0 and not > 0: a NaN that came out of the map must not pass for "no negatives", loss 0.
        lse = torch.where(total == 0, -torch.inf, top.double() + total.log()).to(dtype)
        lse = torch.where(blocks.broken, torch.nan, lse)
        ctx.save_for_backward(
            blocks.aliases, x, w, lse, *parameters
        )  # aliases: torch then sees a change in place
        ctx.blocks = blocks
        return lse, blocks.cos_t.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_lse: Tensor, grad_cos_t: Tensor) -> tuple[Tensor | None, ...]:
        _, x, w, lse, *parameters = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        _, need_dx, need_dw, *need_parameters = ctx.needs_input_grad
        dtype = lse.dtype
        x_hat, x_inverse = normalize(x.to(dtype))
        lse = torch.where(lse == -torch.inf, torch.inf, lse)  # without negatives exp(-inf), not exp(inf)
        count = blocks.count(w)
        dx = torch.zeros_like(x_hat)
        dw = x_hat.new_empty((count, x.shape[1])) if need_dw else None
        wanted = [n for n, need in enumerate(need_parameters) if need]
        grad_parameters = {n: torch.zeros_like(parameters[n]) for n in wanted}
        for first, last in blocks.ranges(x, count):
            rows = blocks.rows(first, last)
            w_hat, w_inverse = normalize(blocks.centres(w, x, slice(first, last)))
            cos = x_hat[rows] @ w_hat.t()
            negative = blocks.negatives(cos, rows, first, last)
            with torch.enable_grad():
                leaf = cos.requires_grad_()
                own = [p[rows, None].requires_grad_(n in wanted) for n, p in enumerate(parameters)]
                mapped = blocks.function(leaf, *own)
            weight = torch.exp(blocks.scale * mapped.detach() - lse[rows, None]) * (
                blocks.scale * grad_lse[rows, None]
            )
            weight = torch.where(negative, weight, 0.0)
            inputs = [leaf, *(own[n] for n in wanted)]
            gradient, *of_parameters = torch.autograd.grad(
                mapped, inputs, weight, allow_unused=True, materialize_grads=True
            )
            for n, part in zip(wanted, of_parameters, strict=True):
                grad_parameters[n][rows] += part[:, 0]
            gradient = torch.where(negative, gradient, 0.0)
            gradient = blocks.set_targets(gradient, grad_cos_t[rows], rows, first, last)
            gradient = blocks.set_broken(gradient, rows, first, last)
            if need_dx:
                dx[rows] += gradient @ w_hat
            if dw is not None:
                dw[first:last] = gradient_through_norm(gradient.t() @ x_hat[rows], w_hat, w_inverse)
        if blocks.pairs is not None:
            blocks.pairs.gradients(
                grad_lse, lse, x_hat, lambda at: blocks.centres(w, x, at), parameters, dx, dw, grad_parameters
            )
        if need_dx:
            dx = torch.where(blocks.broken[:, None], torch.nan, gradient_through_norm(dx, x_hat, x_inverse))
        return (
            None,
            dx.to(x.dtype) if need_dx else None,
            None if dw is None else sampled_gradient(dw.to(w.dtype), blocks.class_index, w),
            *(grad_parameters.get(n) for n in range(len(parameters))),
        )
