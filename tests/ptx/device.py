"""The same calls on a GPU: the ops in place of the PTX machine. `BBS_EXECUTOR=device` makes tests/ptx run on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from oracle import GUARDS, RULES, Problem, Result

import bbs_kernels  # registers the ops
from bbs_kernels._load import OPS

if TYPE_CHECKING:
    from backward_executor import Backward
    from executor import Forward

NO_LABEL = 2**63 - 1


def chosen() -> bool:
    return os.environ.get("BBS_EXECUTOR") == "device"


def tensor(array: np.ndarray, operand: str) -> torch.Tensor:
    """As stored by the executor; bf16 arrives as its bits."""
    t = torch.from_numpy(np.ascontiguousarray(array))
    if operand == "bf16" and array.dtype == np.uint16:
        t = t.view(torch.int16).view(torch.bfloat16)
    return t.cuda()


def arguments(call: Forward) -> dict:
    p: Problem = call.p
    w = tensor(call.w, call.operand)
    length = len(p.w) if call.transposed else p.w.shape[1]  # of a line of memory
    w = w[:, :length].t() if call.transposed else w[:, :length]
    k = p.k if p.rule == "topk" else 0
    return {
        "x": tensor(call.x, call.operand),
        "w": w,
        "labels": torch.from_numpy(p.labels.astype(np.int64)).cuda(),
        "offsets": torch.tensor(call.offsets),
        "guard": None if p.guard_rows is None else torch.from_numpy(p.guard_rows.astype(np.float32)).cuda(),
        "aliases": None if p.aliases is None else torch.from_numpy(p.aliases.astype(np.int64)).cuda(),
        "scale": p.scale,
        "rule": RULES[p.rule],
        "k": k,
        "skip": p.skip if k else 0,
        "guard_kind": GUARDS[p.guard],
        "guard_value": p.guard_value,
        "ignore_index": p.ignore_index,
        "allow_tf32": call.operand == "tf32",
        "subcenters": p.subcenters,
        "row_basket": None if p.row_basket is None else torch.from_numpy(p.row_basket).cuda(),
        "row_alias": None if p.row_alias is None else torch.from_numpy(p.row_alias).cuda(),
    }


def forward(call: Forward) -> Result:
    OPS.take_bad_label()
    if call.margin:
        family = dict(zip(("m1", "m2", "m3", "boundary", "target_grad"), call.margin, strict=True))
        given = {name: v for name, v in arguments(call).items() if not name.startswith("row_")}
        *losses, lse, cos_t, idx, cos, _ = OPS.margin_softmax(**given, **family)
        call.losses = [t.cpu().numpy() for t in losses]
    else:
        lse, cos_t, idx, cos, _ = OPS.cos_lse(**arguments(call), mined_in_lse=call.p.mined_in_lse)
    torch.cuda.synchronize()
    call.stats = {}
    call.bad_label, call.bad_label_classes = OPS.take_bad_label().tolist()
    idx = torch.div(idx, call.p.subcenters, rounding_mode="floor")
    return Result(*(t.cpu().numpy() for t in (lse, cos_t, idx, cos)))


def backward(call: Backward) -> tuple[np.ndarray | None, np.ndarray | None]:
    OPS.take_bad_label()
    given = arguments(call)
    for name in ("k", "skip"):
        given.pop(name)
    saved = call.forward
    shape = (len(call.p.labels), call.p.baskets, -1 if saved.mined_idx.size else 0)
    dx, dw = OPS.cos_lse_backward(
        torch.from_numpy(call.u).cuda(), torch.from_numpy(call.t).cuda(), **given,
        lse=torch.from_numpy(saved.lse.astype(np.float32)).cuda(),
        cos_t=torch.from_numpy(saved.cos_t.astype(np.float32)).cuda(),
        mined_idx=torch.from_numpy(call.mined_centres()).reshape(shape).cuda(),
        mined_cos=torch.from_numpy(saved.mined_cos.astype(np.float32)).reshape(shape).cuda(),
        stash=torch.empty(0).cuda(), class_index=None, need_dx=call.need_dx, need_dw=call.need_dw,
    )  # fmt: skip
    torch.cuda.synchronize()
    OPS.take_bad_label()
    return (
        dx.double().cpu().numpy() if call.need_dx else None,
        dw.double().cpu().numpy() if call.need_dw else None,
    )


__all__ = ["NO_LABEL", "backward", "bbs_kernels", "chosen", "forward"]
