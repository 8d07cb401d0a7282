"""`cos_lse` with f(c_ij) in place of c_ij: log of the sum over N_i of exp(s * f(c_ij)), for any elementwise f.

The kernels have no hook for f, so this is plain torch over blocks of classes: the kernels find the target cosines, the
mined classes and the rows that met a NaN; then one pass here adds up the blocks, and backward recomputes each. Never
more than a block of cosines is held. Costs a dense product of all classes with the batch in forward and three in
backward, also under `TopK`, whose mined part is sparse in the kernels; on the CPU, `Own` skips rows of other baskets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import functional
from ._layout import sampled_gradient
from .negative_map import NegativeMap, checked_map
from .rules import GUARD_ABSOLUTE, GUARD_RELATIVE, GUARD_ROWS, RULE_ALL, RULE_BELOW

BLOCK = 1 << 19  # cosines of a block: 2 MiB in fp32, and about eight such tensors at a time
LEAST_CLASSES = 64  # of a block: a product with fewer columns is slow
ZERO_NORM = 1e-12


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
        x, w, labels, offsets, **arguments: as for `functional.cos_lse`, but for those of a shard.
        negatives: from the detached target cosines [B] to the map; called once.

    Returns:
        lse [B], of the mapped negatives; cos_t, mined_idx and mined_cos as from `functional.cos_lse`. Gradients flow
        through lse, to `x`, `w` and the map's parameters, and through cos_t.

    Raises:
        TypeError, ValueError, RuntimeError: as `functional.cos_lse`, and for what is no `NegativeMap`.
    """
    call = functional.prepare(x, w, labels, offsets, **arguments)
    if call.subcenters > 1:
        raise ValueError(
            f"subcenters is {call.subcenters}, allowed is 1 with a margin that maps the negatives"
        )
    with torch.no_grad():
        found, cos_t, mined_idx, mined_cos, _ = call._replace(stash_bytes=0).run(call.x.detach(), w.detach())
    with torch.autocast(x.device.type, enabled=False):
        mapping = checked_map(negatives(cos_t), cos_t)
        blocks = _Blocks(call, mapping.function, cos_t, found.isnan(), mined_idx)
        lse, cos_t = _MappedLse.apply(blocks, call.x, w, *mapping.parameters)
    return lse, cos_t, mined_idx, mined_cos


class _Masks(NamedTuple):
    """[r, n] bool: negatives, the target, and pairs whose NaN reaches the row."""

    negative: Tensor
    target: Tensor
    touched: Tensor


class _Blocks:
    """What both passes need besides the operands. A position is a place in the list of classes taking part."""

    def __init__(
        self,
        call: functional.CoreCall,
        function: Callable[..., Tensor],
        cos_t: Tensor,
        broken: Tensor,
        mined: Tensor,
    ) -> None:
        self.function, self.cos_t, self.broken = function, cos_t, broken
        self.scale, self.rule, self.aliases = call.scale, call.rule, call.aliases
        self.reads_others = call.rule.rule in (RULE_ALL, RULE_BELOW) or call.rule.k > 0
        self.class_index, self.offsets = call.class_index, call.offsets
        valid = call.labels != call.ignore_index
        self.row_basket = torch.where(valid, functional.basket_of(call.labels, call.offsets), -1)
        label = torch.where(valid, call.labels, -1)
        self.target = self._positions(label)
        self.mined = self._positions(mined.flatten(1))
        self.guard = self._guards(call)
        self.row_alias = None
        if call.aliases is not None:
            self.row_alias = torch.where(valid, call.aliases[label.clamp_min(0)], -1)

    def ranges(self, x: Tensor, classes: int) -> Iterator[tuple[int, int]]:
        """First and last position of each block, for `x` [B, D]."""
        step = max(LEAST_CLASSES, BLOCK // max(*x.shape, 1))
        for first in range(0, classes, step):
            yield first, min(first + step, classes)

    def centres(self, w: Tensor, first: int, last: int, dtypes: tuple[torch.dtype, torch.dtype]) -> Tensor:
        """[n, D] of a block, rounded to the first dtype and then in the second."""
        chosen = w[first:last] if self.class_index is None else w[self.class_index[first:last]]
        return chosen.to(dtypes[0]).to(dtypes[1])

    def rows(self, first: int, last: int) -> slice | Tensor:
        """The rows that a block concerns; all of them where finding out would wait for a device."""
        if self.reads_others or self.row_basket.device.type != "cpu":
            return slice(None)
        ends = functional.basket_of(self._classes(first, last)[[0, -1]], self.offsets)
        return torch.nonzero((self.row_basket >= ends[0]) & (self.row_basket <= ends[1])).flatten()

    def masks(self, cos: Tensor, rows: slice | Tensor, first: int, last: int) -> _Masks:
        """Which pairs of the block are what; `cos` [r, n] for the guard of `Below`."""
        classes = self._classes(first, last)
        basket = self.row_basket[rows, None]
        own = functional.basket_of(classes, self.offsets) == basket
        other = ~own & (basket >= 0)
        target = torch.arange(first, last, device=classes.device) == self.target[rows, None]
        admitted = own
        if self.rule.rule == RULE_ALL:
            admitted = own | other
        elif self.rule.rule == RULE_BELOW and self.guard is not None:
            admitted = own | (other & (cos <= self.guard[rows, None]))
        elif self.mined.shape[1] > 0:
            admitted = own | self._mined_here(rows, first, last)
        negative = admitted & ~target
        if self.aliases is not None and self.row_alias is not None:
            alias = self.row_alias[rows, None]
            negative &= (alias < 0) | (self.aliases[classes] != alias)
        return _Masks(negative, target, own | other if self.reads_others else own)

    def _mined_here(self, rows: slice | Tensor, first: int, last: int) -> Tensor:
        place = self.mined[rows] - first
        count = last - first
        place = torch.where(
            (place >= 0) & (place < count), place, count
        )  # the others into a column that is cut off
        mask = torch.zeros((len(place), count + 1), dtype=torch.bool, device=place.device)
        return mask.scatter_(1, place, True)[:, :count]

    def _classes(self, first: int, last: int) -> Tensor:
        if self.class_index is not None:
            return self.class_index[first:last]
        return torch.arange(first, last, device=self.row_basket.device)

    def _positions(self, classes: Tensor) -> Tensor:
        """Places of classes in the list of those taking part, -1 for -1."""
        if self.class_index is None:
            return classes
        place = torch.searchsorted(self.class_index, classes).clamp_max(len(self.class_index) - 1)
        return torch.where(self.class_index[place] == classes, place, -1)

    def _guards(self, call: functional.CoreCall) -> Tensor | None:
        if self.rule.guard_kind == GUARD_ABSOLUTE:
            return torch.full_like(self.cos_t, self.rule.guard_value)
        if self.rule.guard_kind == GUARD_RELATIVE:
            return self.cos_t - self.rule.guard_value
        return call.guard if self.rule.guard_kind == GUARD_ROWS else None


class _MappedLse(torch.autograd.Function):
    """lse and cos_t [B] from (blocks, x, w, *parameters)."""

    @staticmethod
    def forward(
        ctx: Any, blocks: _Blocks, x: Tensor, w: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = blocks.cos_t.dtype
        x_hat, _ = _unit(x.to(dtype))
        top = x_hat.new_full((len(x),), -torch.inf)
        total = x_hat.new_zeros((len(x),), dtype=torch.float64)
        for first, last in blocks.ranges(x, _count(blocks, w)):
            rows = blocks.rows(first, last)
            w_hat, _ = _unit(blocks.centres(w, first, last, (x.dtype, dtype)))
            cos = x_hat[rows] @ w_hat.t()
            negative = blocks.masks(cos, rows, first, last).negative
            z = blocks.scale * blocks.function(cos, *(p[rows, None] for p in parameters))
            z = torch.where(negative, z, -torch.inf)
            before = top[rows]
            now = torch.maximum(before, z.amax(dim=1))
            safe = torch.where(now == -torch.inf, 0.0, now)  # or -inf - -inf would be NaN
            part = torch.exp(z - safe[:, None]).sum(dim=1, dtype=torch.float64)
            total[rows] = total[rows] * torch.exp((before - safe).double()) + part
            top[rows] = now
        lse = torch.where(total > 0, top.double() + total.log(), -torch.inf).to(dtype)
        lse = torch.where(blocks.broken, torch.nan, lse)
        ctx.save_for_backward(x, w, lse, *parameters)
        ctx.blocks = blocks
        return lse, blocks.cos_t.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_lse: Tensor, grad_cos_t: Tensor) -> tuple[Tensor | None, ...]:
        x, w, lse, *parameters = ctx.saved_tensors
        blocks: _Blocks = ctx.blocks
        _, need_dx, need_dw, *need_parameters = ctx.needs_input_grad
        dtype = lse.dtype
        x_hat, x_inverse = _unit(x.to(dtype))
        lse = torch.where(
            lse == -torch.inf, torch.inf, lse
        )  # a row without negatives: exp(-inf), not exp(inf)
        count = _count(blocks, w)
        dx = torch.zeros_like(x_hat)
        dw = x_hat.new_empty((count, x.shape[1])) if need_dw else None
        wanted = [n for n, need in enumerate(need_parameters) if need]
        grad_parameters = {n: torch.zeros_like(parameters[n]) for n in wanted}
        for first, last in blocks.ranges(x, count):
            rows = blocks.rows(first, last)
            w_hat, w_inverse = _unit(blocks.centres(w, first, last, (x.dtype, dtype)))
            cos = x_hat[rows] @ w_hat.t()
            negative, target, touched = blocks.masks(cos, rows, first, last)
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
            gradient = torch.where(target, grad_cos_t[rows, None], torch.where(negative, gradient, 0.0))
            gradient = torch.where(touched & blocks.broken[rows, None], torch.nan, gradient)
            if need_dx:
                dx[rows] += gradient @ w_hat
            if dw is not None:
                dw[first:last] = _through_norm(gradient.t() @ x_hat[rows], w_hat, w_inverse)
        if need_dx:
            dx = torch.where(blocks.broken[:, None], torch.nan, _through_norm(dx, x_hat, x_inverse))
        return (
            None,
            dx.to(x.dtype) if need_dx else None,
            None if dw is None else sampled_gradient(dw.to(w.dtype), blocks.class_index, w),
            *(grad_parameters.get(n) for n in range(len(parameters))),
        )


def _count(blocks: _Blocks, w: Tensor) -> int:
    return w.shape[0] if blocks.class_index is None else blocks.class_index.shape[0]


def _unit(v: Tensor) -> tuple[Tensor, Tensor]:
    """v / ||v|| and 1 / ||v|| [n, 1], both 0 where the norm is below 1e-12 or not finite.

    Rows that meet such a value are known as broken and become NaN by their mask; a NaN in a product would reach others.
    """
    square = v.square().sum(dim=1, keepdim=True)
    usable = square.isfinite() & (square >= ZERO_NORM**2)
    inverse = torch.where(usable, torch.where(usable, square, 1.0).rsqrt(), 0.0)
    return torch.where(usable, v, 0.0) * inverse, inverse


def _through_norm(gradient: Tensor, hat: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of v from that of v / ||v||."""
    return (gradient - (gradient * hat).sum(dim=1, keepdim=True) * hat) * inverse
