"""The ops of the CUDA key, in Python, for a build without a CUDA library. Same schemas, plans and kernels."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .. import _core  # type: ignore[attr-defined]  # compiled
from .._layout import gradient_like
from ..checks import NO_LABEL, raise_label
from . import calls, sources


@cache
def bad_label() -> Tensor:
    """Where kernels leave a label out of range: [2] int64 in pinned memory, label and number of classes."""
    return torch.tensor([NO_LABEL, 0], dtype=torch.int64).pin_memory()


@cache
def tables(offsets: tuple[int, ...], tile_begin: tuple[int, ...], device: int) -> tuple[Tensor, Tensor]:
    """offsets and first tiles on the device: copied once, so that a step copies nothing and graphs can hold them."""
    return (
        torch.tensor(offsets, dtype=torch.int64, device=device),
        torch.tensor(tile_begin, dtype=torch.int32, device=device),
    )


def raise_bad_label() -> None:
    """Raise what an earlier call found, once; never during graph capture."""
    if torch.cuda.is_current_stream_capturing():
        return
    raise_label(take_bad_label())


def take_bad_label() -> Tensor:
    """[2] int64 on the CPU: the label that a launch found out of range (or NO_LABEL), the classes there were."""
    found = bad_label().clone()
    bad_label()[0] = NO_LABEL
    return found


def cos_lse(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None,
    scale: float, rule: int, k: int, skip: int, guard_kind: int, guard_value: float, ignore_index: int,
    class_index: Tensor | None = None, stash_bytes: int = 0, allow_tf32: bool = False,
    row_basket: Tensor | None = None, row_alias: Tensor | None = None, mined_in_lse: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """CUDA body of `bbs_kernels::cos_lse`."""
    _refuse_row_places(row_basket, row_alias, mined_in_lse)
    rows, baskets = x.shape[0], offsets.shape[0] - 1
    lse, cos_t = x.new_empty(rows, dtype=torch.float32), x.new_empty(rows, dtype=torch.float32)
    mined_idx = labels.new_empty((rows, baskets, k))
    mined_cos = x.new_empty((rows, baskets, k), dtype=torch.float32)
    _forward(
        x, w, labels, offsets, guard, aliases, lse, cos_t, mined_idx, mined_cos, class_index,
        scale=scale, rule=rule, k=k, skip=skip, guard_kind=guard_kind, guard_value=guard_value,
        ignore_index=ignore_index, allow_tf32=allow_tf32,
    )  # fmt: skip
    return lse, cos_t, mined_idx, mined_cos, x.new_empty(0, dtype=torch.float32)


def target_cos(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, ignore_index: int, class_index: Tensor | None = None,
    allow_tf32: bool = False,
) -> Tensor:  # fmt: skip
    """CUDA body of `bbs_kernels::target_cos`: only the first kernel of a forward."""
    cos_t = x.new_empty(x.shape[0], dtype=torch.float32)
    _forward(
        x, w, labels, offsets, None, None, None, cos_t, None, None, class_index,
        scale=1.0, rule=1, k=0, skip=0, guard_kind=0, guard_value=0.0, ignore_index=ignore_index,
        allow_tf32=allow_tf32,
    )  # fmt: skip
    return cos_t


def cos_lse_backward(
    grad_lse: Tensor, grad_cos_t: Tensor, x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, lse: Tensor,
    cos_t: Tensor, mined_idx: Tensor, mined_cos: Tensor, stash: Tensor, guard: Tensor | None, aliases: Tensor | None,
    scale: float, rule: int, guard_kind: int, guard_value: float, ignore_index: int, class_index: Tensor | None,
    need_dx: bool, need_dw: bool, allow_tf32: bool = False, row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """CUDA body of `bbs_kernels::cos_lse_backward`."""
    from .launcher import Launch, launch, machine_of

    _refuse_row_places(row_basket, row_alias, True)
    _check_all_classes(class_index)
    raise_bad_label()
    dx = gradient_like(x, x.shape[0]) if need_dx else x.new_empty(0)
    dw = gradient_like(w, w.shape[0]) if need_dw else w.new_empty(0)
    if x.shape[0] == 0:
        return dx, dw.zero_()
    if not (need_dx or need_dw):
        return dx, dw
    device = x.device.index
    x, labels, guard, aliases = calls.packed(x, labels, guard, aliases)
    given = [t.contiguous() for t in (grad_lse, grad_cos_t, lse, mined_idx, mined_cos)]
    call = calls.forward_call(
        x, w, labels, offsets, guard, aliases, scale=scale, rule=rule, k=mined_idx.shape[2], skip=0,
        guard_kind=guard_kind, guard_value=guard_value, ignore_index=ignore_index, allow_tf32=allow_tf32,
    )  # fmt: skip
    # x may be a transposed view, whose gradient the kernels write row by row.
    by_rows = dx if not need_dx or dx.stride(1) == 1 else dx.new_empty(dx.shape)
    begin = offsets.tolist()  # on the CPU
    machine = machine_of(device)
    on_device, tile_begin = tables(
        tuple(begin), tuple(_core.plan_forward(call, begin, machine)["tile_begin"]), device
    )
    names = ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos")
    memory = {
        **{name: t.data_ptr() for name, t in zip(names, (on_device, tile_begin, *given), strict=True)},
        "dx": (by_rows.data_ptr(), *by_rows.stride()) if need_dx else None,
        "dw": (dw.data_ptr(), *dw.stride()) if need_dw else None,
        "workspace": 0,
    }
    size = _core.plan_backward(call, begin, machine, memory)["workspace"]
    workspace = x.new_empty(size, dtype=torch.uint8)
    plan = _core.plan_backward(call, begin, machine, memory | {"workspace": workspace.data_ptr()})
    kernels = sources.backward_kernels(call["operand"], w.element_size(), plan)
    launch(sources.BACKWARD, kernels, [Launch(*one) for one in plan["launches"]], device)
    if by_rows is not dx:
        dx.copy_(by_rows)
    return dx, dw


def _check_all_classes(class_index: Tensor | None) -> None:
    if class_index is not None:
        raise ValueError("class_index (Partial FC) came with tensors on CUDA, allowed is None there")


def _refuse_row_places(row_basket: Tensor | None, row_alias: Tensor | None, mined_in_lse: bool) -> None:
    if row_basket is None and row_alias is None and mined_in_lse:
        return
    names = ("row_basket", "row_alias", "mined_in_lse=False")
    given = (row_basket is not None, row_alias is not None, True)
    raise ValueError(
        f"{names[given.index(True)]} (class-parallel) came with tensors on CUDA, allowed is the default there: "
        "shards of the classes are on the CPU in this version"
    )


def _forward(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None,
    lse: Tensor | None, cos_t: Tensor, mined_idx: Tensor | None, mined_cos: Tensor | None,
    class_index: Tensor | None, **numbers,
) -> None:  # fmt: skip
    from .launcher import Launch, launch, machine_of

    _check_all_classes(class_index)
    raise_bad_label()
    if x.shape[0] == 0:
        return
    device = x.device.index
    x, labels, guard, aliases = calls.packed(x, labels, guard, aliases)
    call = calls.forward_call(x, w, labels, offsets, guard, aliases, **numbers)
    begin = offsets.tolist()  # on the CPU
    machine = machine_of(device)
    plan = _core.plan_forward(call, begin, machine)
    on_device, tile_begin = tables(tuple(begin), tuple(plan["tile_begin"]), device)
    workspace = x.new_empty(plan["workspace"], dtype=torch.uint8)
    memory = {
        "offsets": on_device.data_ptr(),
        "tile_begin": tile_begin.data_ptr(),
        "bad_label": bad_label().data_ptr(),
        "lse": calls.address(lse),
        "cos_target": cos_t.data_ptr(),
        "mined_idx": calls.address(mined_idx),
        "mined_cos": calls.address(mined_cos),
        "workspace": workspace.data_ptr(),
    }
    kernels = sources.forward_kernels(call["operand"], w.element_size(), plan)
    parameters = _core.pack_forward(call, begin, machine, memory, target_only=lse is None)
    wanted = ["prepare_rows"] if lse is None else list(kernels)
    launches = [
        Launch(name, plan[name]["grid"], plan[name]["block"], plan[name]["shared"], parameters)
        for name in wanted
    ]
    launch(sources.FORWARD, kernels, launches, device)


def register() -> None:
    """Make these the CUDA bodies of the ops."""
    torch.library.define("bbs_kernels::take_bad_label", "() -> Tensor")
    torch.library.impl("bbs_kernels::take_bad_label", "CompositeExplicitAutograd", take_bad_label)
    torch.library.impl("bbs_kernels::cos_lse", "CUDA", cos_lse)
    torch.library.impl("bbs_kernels::cos_lse_backward", "CUDA", cos_lse_backward)
    torch.library.impl("bbs_kernels::target_cos", "CUDA", target_cos)
