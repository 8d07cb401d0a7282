"""The ops' argument lists, spelled here and nowhere else in Python: forward, backward, and both of the SGD step.

A `CoreCall` is what one step hands to the ops beside w. The same object goes from the forward pass to the backward
pass, so that a new option is a field here and an argument in csrc/torch/schemas.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..margins import FamilyArguments, FamilyCodes
from ..rules import OpArguments
from .load import OPS
from .precision import allow_tf32

DEFAULT_WORKSPACE_BYTES = 64 << 20  # kDenseWorkspace of csrc/cuda/backward_plan.h


class CoreOutputs(NamedTuple):
    """What the op `cos_lse` returns.

    lse, cos_t [B]; mined_idx [B, K, k] rows of w, see `CoreCall.classes_of`; mined_cos [B, K, k]; stash [n].
    """

    lse: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    stash: Tensor


class MarginOutputs(NamedTuple):
    """losses [B], their derivatives grad_lse and grad_cos_t [B], and what `cos_lse` returns."""

    losses: Tensor
    grad_lse: Tensor
    grad_cos_t: Tensor
    core: CoreOutputs


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


class CoreCall(NamedTuple):
    """A checked call: `x` [B, D] after autocast, and everything else but w; see `functional.cos_lse`.

    guard: [B], where the rule's guard is one per row. scale: a tensor where m1, m2 and m3 are in it as well.
    """

    x: Tensor
    labels: Tensor
    offsets: Tensor
    guard: Tensor | None
    aliases: Tensor | None
    scale: float | Tensor
    rule: OpArguments
    ignore_index: int
    class_index: Tensor | None
    stash_bytes: int
    allow_tf32: bool
    row_basket: Tensor | None = None
    row_alias: Tensor | None = None
    mined_in_lse: bool = True
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
    subcenters: int = 1

    def forward(self, x: Tensor, w: Tensor) -> CoreOutputs:
        """Run the op `cos_lse`; `x` is that of the call, or another view of it for autograd."""
        with torch.autocast(x.device.type, enabled=False):
            return CoreOutputs(*OPS.cos_lse(*self.forward_arguments(x, w)))

    def forward_arguments(self, x: Tensor, w: Tensor) -> tuple[Any, ...]:
        """Return all arguments of the op `cos_lse`."""
        return (
            x, w, *self._rows(), *self.rule, self.ignore_index, self.class_index, self.stash_bytes, self.allow_tf32,
            self.row_basket, self.row_alias, self.mined_in_lse, self.workspace_bytes, self.subcenters,
        )  # fmt: skip

    def forward_margin(self, x: Tensor, w: Tensor, margin: FamilyArguments | FamilyCodes) -> MarginOutputs:
        """Run the op `margin_softmax`.

        Raises:
            ValueError: the call is of a shard, which does not know the whole log-sum-exp.
        """
        if self.row_basket is not None or self.row_alias is not None or not self.mined_in_lse:
            raise ValueError(
                "row_basket, row_alias and mined_in_lse=False belong to cos_lse of a shard: a loss needs the lse of all"
            )
        with torch.autocast(x.device.type, enabled=False):
            losses, grad_lse, grad_cos_t, *core = OPS.margin_softmax(
                x, w, *self._rows(), *self.rule, self.ignore_index, *margin, self.class_index, self.stash_bytes,
                self.allow_tf32, self.workspace_bytes, self.subcenters,
            )  # fmt: skip
        return MarginOutputs(losses, grad_lse, grad_cos_t, CoreOutputs(*core))

    def backward(
        self,
        grad_lse: Tensor,
        grad_cos_t: Tensor,
        w: Tensor,
        outputs: CoreOutputs,
        need_dx: bool,
        need_dw: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run the op `cos_lse_backward`: dx and dw, [0] where not needed.

        Args:
            outputs: of the forward pass; lse, cos_t and mined_idx of all shards together where w is one. Only mined
                classes that are part of lse may be in mined_idx, see `in_lse`.
        """
        dx, dw = OPS.cos_lse_backward(
            *self._for_backward(grad_lse, grad_cos_t, w, outputs), need_dx, need_dw, self.allow_tf32, self.row_basket,
            self.row_alias, self.workspace_bytes, self.subcenters,
        )  # fmt: skip
        return dx, dw

    def backward_sgd(
        self,
        grad_lse: Tensor,
        grad_cos_t: Tensor,
        w: Tensor,
        outputs: CoreOutputs,
        need_dx: bool,
        step: SgdSettings,
    ) -> Tensor:
        """Run the op `cos_lse_backward_sgd`: w moves by one step, dx comes back, [0] where not needed."""
        dx: Tensor = OPS.cos_lse_backward_sgd(
            *self._for_backward(grad_lse, grad_cos_t, w, outputs), need_dx, *step, self.row_basket, self.row_alias,
            self.subcenters,
        )  # fmt: skip
        return dx

    def classes_of(self, mined_idx: Tensor) -> Tensor:
        """Return classes for `mined_idx`, rows of w (the nearest sub-centre of each mined class); -1 stays."""
        if self.subcenters == 1:
            return mined_idx
        return torch.div(mined_idx, self.subcenters, rounding_mode="floor")

    def in_lse(self, outputs: CoreOutputs) -> CoreOutputs:
        """Return `outputs` without the mined classes where these are listed only, and are no part of lse."""
        if self.mined_in_lse:
            return outputs
        return outputs._replace(mined_idx=torch.full_like(outputs.mined_idx, -1))

    def _rows(self) -> tuple[Any, ...]:
        return self.labels, self.offsets, self.guard, self.aliases, self.scale

    def _for_backward(
        self, grad_lse: Tensor, grad_cos_t: Tensor, w: Tensor, outputs: CoreOutputs
    ) -> tuple[Any, ...]:
        rule = self.rule
        return (
            grad_lse, grad_cos_t, self.x, w, self.labels, self.offsets, *outputs, self.guard, self.aliases, self.scale,
            rule.rule, rule.guard_kind, rule.guard_value, self.ignore_index, self.class_index,
        )  # fmt: skip

    @classmethod
    def of_op(cls, op: Any, inputs: Sequence[Any]) -> tuple[Tensor, CoreCall]:
        """Return w and the call from the inputs of `cos_lse` or `margin_softmax`, in the order of the op's schema."""
        given = arguments_of(op, inputs)
        if "numbers" in given:  # an overload of tensor_scale.py
            given["scale"] = given["numbers"]
        rule = OpArguments(*(given[name] for name in OpArguments._fields))
        fields = {name: given[name] for name in cls._fields if name in given and name != "rule"}
        return given["w"], cls(**fields, rule=rule)

    def without_tensors(self) -> tuple[list[Tensor | None], CoreCall]:
        """Return the tensors of all fields (None for others), to be saved, and the call without them."""
        tensors = [value if isinstance(value, Tensor) else None for value in self]
        rest: list[Any] = [None if isinstance(value, Tensor) else value for value in self]
        return tensors, CoreCall(*rest)

    def with_tensors(self, tensors: Sequence[Tensor | None]) -> CoreCall:
        """Undo `without_tensors`."""
        fields: list[Any] = [value if t is None else t for t, value in zip(tensors, self, strict=True)]
        return CoreCall(*fields)


def target_cos(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    ignore_index: int,
    class_index: Tensor | None,
    subcenters: int,
) -> Tensor:
    """Run the op `target_cos`: [B] cosines of each row and its class, 0 for a row of `ignore_index`."""
    cos_t: Tensor = OPS.target_cos(
        x.detach(), w.detach(), labels, offsets, ignore_index, class_index, allow_tf32(x), subcenters
    )
    return cos_t


def arguments_of(op: Any, given: Sequence[Any], by_name: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of an op by name, defaults included.

    Args:
        op: an overload, with its schema.
        given, by_name: positional and keyword arguments of a call.
    """
    names, defaults = _schema_of(op)
    return {**defaults, **dict(zip(names, given, strict=False)), **(by_name or {})}


@cache
def _schema_of(op: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of an op's arguments and their defaults; torch makes them anew for every look at a schema."""
    arguments = op._schema.arguments
    return tuple(a.name for a in arguments), {
        a.name: a.default_value for a in arguments if a.has_default_value()
    }
