"""From the arguments of the public functions to a `CoreCall`: every check, autocast, and the guard of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ema as running_mean
from ..recompute import moved_once
from ..rules import (
    GUARD_NONE,
    GUARD_RELATIVE,
    GUARD_ROWS,
    OpArguments,
    Rule,
    check_rule,
    check_rule_size,
    ema_guard,
)
from ..transforms import refuse_transforms
from ..validate import (
    CORE_NAMES,
    OperandNames,
    check_is_tensor,
    check_operands,
    check_optional,
    check_scale,
    check_subcenters,
)
from .call import DEFAULT_WORKSPACE_BYTES, CoreCall, target_cos
from .load import OPS
from .placement import on_device
from .precision import allow_tf32

DEFAULT_STASH_BYTES = 32 << 20


def prepare(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    scale: float | Tensor,
    mining: Rule,
    aliases: Tensor | None = None,
    ignore_index: int = -1,
    ema: Tensor | None = None,
    training: bool = False,
    class_index: Tensor | None = None,
    stash_bytes: int = DEFAULT_STASH_BYTES,
    row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
    row_guard: Tensor | None = None,
    mined_in_lse: bool = True,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    subcenters: int = 1,
    names: OperandNames = CORE_NAMES,
) -> CoreCall:
    """Everything of `cos_lse` before the op itself: checks, autocast, the `Ema` guard and its update."""
    check_rule(mining)
    x = autocast(x, names.x)
    check_operands(x, w, labels, offsets, names)
    classes = check_subcenters(subcenters, w)
    if not isinstance(scale, Tensor):
        check_scale(scale)
        scale = float(scale)
    check_rule_size(mining, offsets)
    refuse_transforms(**{names.x: x, names.w: w})
    check_optional("aliases", aliases, (classes,), torch.int64, w.device)
    with torch.autocast(x.device.type, enabled=False):
        if row_guard is None and row_basket is None:
            guard = _ema_rows(
                x, w, labels, offsets, mining, ignore_index, ema, training, class_index, subcenters
            )
        else:
            guard = row_guard
    return CoreCall(
        x, labels, offsets, guard, aliases, scale, _op_arguments(mining, guard, row_basket), ignore_index,
        class_index, stash_bytes if torch.is_grad_enabled() and not on_device(x) else 0, allow_tf32(x),
        row_basket, row_alias, mined_in_lse, workspace_bytes, subcenters,
    )  # fmt: skip


def _op_arguments(mining: Rule, guard: Tensor | None, row_basket: Tensor | None) -> OpArguments:
    """The rule's arguments; with guards per row these count, and a shard needs them where a guard hangs on c_t."""
    arguments = mining.op_arguments()
    if guard is not None:
        if arguments.guard_kind == GUARD_NONE:
            raise ValueError(
                f"row_guard: expected None with {mining}, which has no guard, got {type(guard).__name__}"
            )
        return arguments._replace(guard_kind=GUARD_ROWS, guard_value=0.0)
    if row_basket is not None and arguments.guard_kind in (GUARD_RELATIVE, GUARD_ROWS):
        raise ValueError(f"row_guard: expected a tensor [B] with row_basket and {mining}, got None")
    return arguments


def _ema_rows(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, mining: Rule, ignore_index: int,
    ema: Tensor | None, training: bool, class_index: Tensor | None, subcenters: int,
) -> Tensor | None:  # fmt: skip
    """The guard per row for an `Ema` guard, after its update; None for every other guard."""
    guard = ema_guard(mining)
    if guard is None:
        return None
    check_optional("ema", ema, (offsets.shape[0] - 1,), None, x.device)
    if ema is not None and not ema.is_floating_point():
        raise TypeError(f"ema: expected a floating-point dtype, got {ema.dtype}")
    ema = running_mean.given(ema)
    valid = labels != ignore_index
    basket = OPS.basket_of(labels, offsets)
    if training:
        with torch.no_grad():
            cos_t = target_cos(x, w, labels, offsets, ignore_index, class_index, subcenters)
            (ema,) = moved_once((ema,), (running_mean.updated(ema, cos_t, basket, valid),))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return running_mean.row_guards(ema.detach(), guard.r, basket, valid).to(dtype)


def autocast(x: Tensor, name: str = "x") -> Tensor:
    """`x` in the dtype that `F.linear` would use: fp64 stays, the rest follows autocast where it is on.

    Raises:
        TypeError: no tensor; the message calls it `name`.
    """
    check_is_tensor(name, x)
    device_type = x.device.type
    if torch.is_autocast_enabled(device_type) and x.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return x.to(torch.get_autocast_dtype(device_type))
    return x
