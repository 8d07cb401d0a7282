"""The ops of the CUDA key, in Python, for a build without a CUDA library. Same schemas, plans and kernels.

An argument with its default value does not arrive here: the defaults below are those of the schemas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _core  # type: ignore[attr-defined]  # compiled
from .._layout import gradient_like, row_gradient
from ..checks import NO_LABEL, raise_label
from ..functional import DEFAULT_WORKSPACE_BYTES
from . import calls, sources

RESULTS = (
    "lse",
    "cos_target",
    "mined_idx",
    "mined_cos",
)  # of cos_lse, by the names that the kernels' argument has
LOSSES = ("loss", "grad_lse", "grad_cos_t")


used_devices: set[int] = set()
_bad_label: list[Tensor] = []  # one, from the first call on
_tables: dict[
    tuple[tuple[int, ...], tuple[int, ...], int], tuple[Tensor, Tensor]
] = {}  # graphs hold the addresses


def bad_label() -> Tensor:
    """Where kernels leave a label out of range: [2] int64 in pinned memory, label and number of classes."""
    if not _bad_label:
        _bad_label.append(torch.tensor([NO_LABEL, 0], dtype=torch.int64).pin_memory())
    return _bad_label[0]


def tables(offsets: tuple[int, ...], tile_begin: tuple[int, ...], device: int) -> tuple[Tensor, Tensor]:
    """offsets and first tiles on the device: copied once, so that a step copies nothing and graphs can hold them."""
    key = offsets, tile_begin, device
    if key not in _tables:
        if is_capturing(device):
            raise RuntimeError(
                "a CUDA graph is being captured, and no call with these offsets and this layout of w has run on the "
                "device: run one step before the capture"
            )
        _tables[key] = (
            torch.tensor(offsets, dtype=torch.int64, device=device),
            torch.tensor(tile_begin, dtype=torch.int32, device=device),
        )
    return _tables[key]


def is_capturing(device: int) -> bool:
    """Whether the current stream of a device, which may not be the current device, is being captured."""
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def raise_bad_label(device: int) -> None:
    """Raise what an earlier call found, once; never during graph capture, when pinned memory cannot be had either."""
    if is_capturing(device):
        return
    bad_label()
    raise_label(_take())


def take_bad_label() -> Tensor:
    """[2] int64 on the CPU: the label that a launch found out of range (or NO_LABEL), the classes there were.

    Waits for every device that an op has run on.
    """
    for device in sorted(used_devices):
        torch.cuda.synchronize(device)
    return _take()


def _take() -> Tensor:
    """What is there now; it is forgotten."""
    if not _bad_label:
        return torch.tensor([NO_LABEL, 0], dtype=torch.int64)
    found = _bad_label[0].clone()
    _bad_label[0][0] = NO_LABEL
    return found


def cos_lse(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None,
    scale: float, rule: int, k: int, skip: int, guard_kind: int, guard_value: float, ignore_index: int,
    class_index: Tensor | None = None, stash_bytes: int = 0, allow_tf32: bool = False,
    row_basket: Tensor | None = None, row_alias: Tensor | None = None, mined_in_lse: bool = True,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES, subcenters: int = 1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """CUDA body of `bbs_kernels::cos_lse`."""
    check_workspace(workspace_bytes)
    out = _forward(
        x, w, labels, offsets, guard, aliases, RESULTS, class_index, row_basket=row_basket, row_alias=row_alias,
        mined_in_lse=mined_in_lse, scale=scale, rule=rule, k=k, skip=skip, guard_kind=guard_kind,
        guard_value=guard_value, ignore_index=ignore_index, allow_tf32=allow_tf32, subcenters=subcenters,
    )  # fmt: skip
    return *out, x.new_empty(0, dtype=torch.float32)


def margin_softmax(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None,
    scale: float, rule: int, k: int, skip: int, guard_kind: int, guard_value: float, ignore_index: int,
    m1: float, m2: float, m3: float, boundary: int, target_grad: int,
    class_index: Tensor | None = None, stash_bytes: int = 0, allow_tf32: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES, subcenters: int = 1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """CUDA body of `bbs_kernels::margin_softmax`."""
    check_workspace(workspace_bytes)
    out = _forward(
        x, w, labels, offsets, guard, aliases, LOSSES + RESULTS, class_index,
        margin=(m1, m2, m3, boundary, target_grad), scale=scale, rule=rule, k=k, skip=skip, guard_kind=guard_kind,
        guard_value=guard_value, ignore_index=ignore_index, allow_tf32=allow_tf32, subcenters=subcenters,
    )  # fmt: skip
    return *out, x.new_empty(0, dtype=torch.float32)


def target_cos(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, ignore_index: int, class_index: Tensor | None = None,
    allow_tf32: bool = False, subcenters: int = 1,
) -> Tensor:  # fmt: skip
    """CUDA body of `bbs_kernels::target_cos`: only the first kernel of a forward."""
    (cos_t,) = _forward(
        x, w, labels, offsets, None, None, ("cos_target",), class_index, scale=1.0,
        rule=1, k=0, skip=0, guard_kind=0, guard_value=0.0, ignore_index=ignore_index,
        allow_tf32=allow_tf32, subcenters=subcenters,
    )  # fmt: skip
    return cos_t


def cos_lse_backward(
    grad_lse: Tensor, grad_cos_t: Tensor, x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, lse: Tensor,
    cos_t: Tensor, mined_idx: Tensor, mined_cos: Tensor, stash: Tensor, guard: Tensor | None, aliases: Tensor | None,
    scale: float, rule: int, guard_kind: int, guard_value: float, ignore_index: int, class_index: Tensor | None,
    need_dx: bool, need_dw: bool, allow_tf32: bool = False, row_basket: Tensor | None = None,
    row_alias: Tensor | None = None, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES, subcenters: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """CUDA body of `bbs_kernels::cos_lse_backward`."""
    from .launcher import Launch, launch, machine_of

    calls.check_tensors(
        x, w, labels, offsets, guard, aliases, guard_kind=guard_kind, subcenters=subcenters, class_index=class_index,
        row_basket=row_basket, row_alias=row_alias,
    )  # fmt: skip
    k = calls.listed(mined_idx)
    calls.check_saved(
        x, offsets.shape[0] - 1, k, grad_lse=grad_lse, grad_cos_t=grad_cos_t, lse=lse, cos_t=cos_t,
        mined_idx=mined_idx, mined_cos=mined_cos,
    )  # fmt: skip
    device = x.device.index
    used_devices.add(device)
    raise_bad_label(device)
    dx = row_gradient(x, row_basket) if need_dx else x.new_empty(0)
    dw = gradient_like(w, w.shape[0]) if need_dw else w.new_empty(0)
    x, labels, guard, aliases, row_basket, row_alias = calls.packed(
        x, w, labels, guard, aliases, row_basket, row_alias
    )
    given = [t.contiguous() for t in (grad_lse, grad_cos_t, lse, mined_idx, mined_cos)]
    call = calls.forward_call(
        x, w, labels, offsets, guard, aliases, scale=scale, rule=rule, k=k, skip=0,
        guard_kind=guard_kind, guard_value=guard_value, ignore_index=ignore_index, allow_tf32=allow_tf32,
        row_basket=row_basket, row_alias=row_alias, subcenters=subcenters,
    )  # fmt: skip
    # x may be a transposed view, whose gradient the kernels write row by row.
    by_rows = dx if not need_dx or dx.stride(1) == 1 else dx.new_empty(dx.shape)
    begin = calls.centre_offsets(offsets, call["subcenters"])
    machine = machine_of(device)
    size = _core.backward_workspace(call, begin, machine, need_dx, need_dw, workspace_bytes)
    if x.shape[0] == 0:
        return dx, dw.zero_()
    if not (need_dx or need_dw):
        return dx, dw
    on_device, tile_begin = tables(
        tuple(begin), tuple(_core.plan_forward(call, begin, machine)["tile_begin"]), device
    )
    workspace = x.new_empty(size, dtype=torch.uint8)
    names = ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos")
    memory = {
        **{name: t.data_ptr() for name, t in zip(names, (on_device, tile_begin, *given), strict=True)},
        "dx": (by_rows.data_ptr(), *by_rows.stride()) if need_dx else None,
        "dw": (dw.data_ptr(), *dw.stride()) if need_dw else None,
        "workspace": workspace.data_ptr(),
    }
    plan = _core.plan_backward(call, begin, machine, memory, workspace_bytes)
    kernels = sources.backward_kernels(call["operand"], w.element_size(), plan)
    launch(sources.BACKWARD, kernels, [Launch(*one) for one in plan["launches"]], device)
    if by_rows is not dx:
        dx.copy_(by_rows)
    return dx, dw


def check_workspace(workspace_bytes: int) -> None:
    """ValueError for a negative limit, which a forward takes for its backward."""
    if workspace_bytes < 0:
        raise ValueError(f"workspace_bytes is {workspace_bytes}, allowed are values from 0")


def _result(name: str, x: Tensor, baskets: int, k: int) -> Tensor:
    shape = (x.shape[0], baskets, k) if name.startswith("mined") else (x.shape[0],)
    return x.new_empty(shape, dtype=torch.int64 if name == "mined_idx" else torch.float32)


def _forward(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, guard: Tensor | None, aliases: Tensor | None,
    names: Sequence[str], class_index: Tensor | None, margin: tuple[float, float, float, int, int] | None = None,
    row_basket: Tensor | None = None, row_alias: Tensor | None = None, **numbers,
) -> list[Tensor]:  # fmt: skip
    """What `names` asks for: RESULTS; with a `margin` LOSSES too; or cos_target alone, which is the first kernel's."""
    from .launcher import Launch, launch, machine_of

    calls.check_tensors(
        x, w, labels, offsets, guard, aliases, guard_kind=numbers["guard_kind"], subcenters=numbers["subcenters"],
        class_index=class_index, row_basket=row_basket, row_alias=row_alias,
    )  # fmt: skip
    device = x.device.index
    used_devices.add(device)
    raise_bad_label(device)
    x, labels, guard, aliases, row_basket, row_alias = calls.packed(
        x, w, labels, guard, aliases, row_basket, row_alias
    )
    call = calls.forward_call(
        x, w, labels, offsets, guard, aliases, row_basket=row_basket, row_alias=row_alias, **numbers
    )
    begin = calls.centre_offsets(offsets, call["subcenters"])
    machine = machine_of(device)
    plan = _core.plan_forward(call, begin, machine)
    out = {name: _result(name, x, call["baskets"], call["k"]) for name in names}
    if x.shape[0] == 0:
        return list(out.values())
    on_device, tile_begin = tables(tuple(begin), tuple(plan["tile_begin"]), device)
    workspace = x.new_empty(plan["workspace"], dtype=torch.uint8)
    memory = {
        "offsets": on_device.data_ptr(),
        "tile_begin": tile_begin.data_ptr(),
        "bad_label": bad_label().data_ptr(),
        "lse": 0,
        "mined_idx": 0,
        "mined_cos": 0,
        "workspace": workspace.data_ptr(),
        **{name: t.data_ptr() for name, t in out.items()},
    }
    kernels = sources.forward_kernels(call["operand"], w.element_size(), plan)
    target_only = "lse" not in out
    parameters = _core.pack_forward(call, begin, machine, memory, target_only=target_only)
    wanted = {name: parameters for name in ("prepare_rows", "order_rows", "cos_lse_sweep", "merge_splits")}
    if target_only:
        wanted = {"prepare_rows": parameters}
    elif margin is not None:
        wanted.pop("merge_splits")
        wanted["merge_margin"] = _core.pack_forward(call, begin, machine, memory, margin=margin)
    launches = [
        Launch(name, plan[name]["grid"], plan[name]["block"], plan[name]["shared"], argument)
        for name, argument in wanted.items()
    ]
    launch(sources.FORWARD, kernels, launches, device)
    return list(out.values())


def register() -> None:
    """Make these the CUDA bodies of the ops."""
    torch.library.define("bbs_kernels::take_bad_label", "() -> Tensor")
    torch.library.impl("bbs_kernels::take_bad_label", "CompositeExplicitAutograd", take_bad_label)
    torch.library.impl("bbs_kernels::cos_lse", "CUDA", cos_lse)
    torch.library.impl("bbs_kernels::margin_softmax", "CUDA", margin_softmax)
    torch.library.impl("bbs_kernels::cos_lse_backward", "CUDA", cos_lse_backward)
    torch.library.impl("bbs_kernels::target_cos", "CUDA", target_cos)
