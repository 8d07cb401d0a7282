"""Which pairs of a block of classes are negatives, targets or broken: the bookkeeping of lse.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .. import functional
from ..ops.call import CoreCall
from ..ops.placement import on_device
from ..rules import GUARD_ABSOLUTE, GUARD_RELATIVE, GUARD_ROWS, RULE_ALL, RULE_BELOW
from .pairs import MinedPairs

BLOCK = 1 << 19  # cosines of a block: 2 MiB in fp32, and about eight such tensors at a time
LEAST_CLASSES = 64  # of a block: a product with fewer columns is slow


class Blocks:
    """What both passes need besides the operands. A position is a place in the list of classes taking part."""

    def __init__(
        self,
        call: CoreCall,
        function: Callable[..., Tensor],
        cos_t: Tensor,
        broken: Tensor,
        mined: Tensor,
    ) -> None:
        self.function, self.cos_t, self.broken = function, cos_t, broken
        self.scale, self.rule, self.aliases = float(call.scale), call.rule, call.aliases
        self.by_basket = call.rule.rule not in (RULE_ALL, RULE_BELOW) and not on_device(mined)
        self.class_index, self.offsets = call.class_index, call.offsets
        valid = call.labels != call.ignore_index
        self.row_basket = torch.where(valid, functional.basket_of(call.labels, call.offsets), -1)
        label = torch.where(valid, call.labels, -1)
        self.target = self._positions(label)
        self.mined = self._positions(mined.flatten(1))
        self.pairs = None
        if not on_device(mined) and self.mined.shape[1] > 0:
            self.pairs = MinedPairs(self.mined, function, self.scale)
        self.guard = self._guards(call)
        self.row_alias = None
        if call.aliases is not None:
            self.row_alias = torch.where(valid, call.aliases[label.clamp_min(0)], -1)

    def ranges(self, x: Tensor, classes: int) -> Iterator[tuple[int, int]]:
        """First and last position of each block, for `x` [B, D]."""
        step = max(LEAST_CLASSES, BLOCK // max(*x.shape, 1))
        for first in range(0, classes, step):
            yield first, min(first + step, classes)

    def count(self, w: Tensor) -> int:
        """How many classes take part."""
        return w.shape[0] if self.class_index is None else self.class_index.shape[0]

    def centres(self, w: Tensor, x: Tensor, at: slice | Tensor) -> Tensor:
        """[n, D] at positions, rounded to the dtype of `x` and then in that of the arithmetic."""
        chosen = w[at] if self.class_index is None else w[self.class_index[at]]
        return chosen.to(x.dtype).to(self.cos_t.dtype)

    def rows(self, first: int, last: int) -> slice | Tensor:
        """The rows that a block concerns; all of them where finding out would wait for a device."""
        if not self.by_basket:
            return slice(None)
        ends = functional.basket_of(self._classes(first, last)[[0, -1]], self.offsets)
        return torch.nonzero((self.row_basket >= ends[0]) & (self.row_basket <= ends[1])).flatten()

    def negatives(self, cos: Tensor, rows: slice | Tensor, first: int, last: int) -> Tensor:
        """[r, n] bool: the negatives of a block; `cos` [r, n] for the guard of `Below`."""
        classes = self._classes(first, last)
        basket = self.row_basket[rows, None]
        own = functional.basket_of(classes, self.offsets) == basket
        if self.rule.rule == RULE_ALL:
            negative = (basket >= 0).expand_as(own).clone()
        elif self.rule.rule == RULE_BELOW and self.guard is not None:
            negative = (own | (cos <= self.guard[rows, None])) & (basket >= 0)
        elif self.mined.shape[1] > 0 and self.pairs is None:
            negative = own | self._mined_here(rows, first, last)
        else:
            negative = own
        if self.aliases is not None and self.row_alias is not None:
            alias = self.row_alias[rows, None]
            negative &= (alias < 0) | (self.aliases[classes] != alias)
        here, place = self._targets(rows, first, last)
        return negative.scatter_(1, place, negative.gather(1, place) & ~here)

    def set_targets(
        self, gradient: Tensor, upstream: Tensor, rows: slice | Tensor, first: int, last: int
    ) -> Tensor:
        """`gradient` [r, n] with the upstream gradient [r] of the target cosine where a row's target is, in place."""
        here, place = self._targets(rows, first, last)
        return gradient.scatter_(1, place, torch.where(here, upstream[:, None], gradient.gather(1, place)))

    def set_broken(self, gradient: Tensor, rows: slice | Tensor, first: int, last: int) -> Tensor:
        """`gradient` with NaN where a broken row touches a class: in its own basket, or in any that its rule reads."""
        broken, basket = self.broken[rows, None], self.row_basket[rows, None]
        if not on_device(broken) and not broken.any():
            return gradient
        touched = functional.basket_of(self._classes(first, last), self.offsets) == basket
        if self.rule.rule in (RULE_ALL, RULE_BELOW) or (self.rule.k > 0 and not self.by_basket):
            touched = basket >= 0
        return torch.where(touched & broken, torch.nan, gradient)

    def _targets(self, rows: slice | Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """[r, 1]: whether the row's target is in the block, and its column (0 where it is not)."""
        column = self.target[rows, None] - first
        here = (column >= 0) & (column < last - first)
        return here, torch.where(here, column, 0)

    def _mined_here(self, rows: slice | Tensor, first: int, last: int) -> Tensor:
        place = self.mined[rows] - first
        count = last - first
        here = (place >= 0) & (place < count)
        place = torch.where(here, place, count)  # the others into a column that is cut off
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

    def _guards(self, call: CoreCall) -> Tensor | None:
        if self.rule.guard_kind == GUARD_ABSOLUTE:
            return torch.full_like(self.cos_t, self.rule.guard_value)
        if self.rule.guard_kind == GUARD_RELATIVE:
            return self.cos_t - self.rule.guard_value
        return call.guard if self.rule.guard_kind == GUARD_ROWS else None
