"""The same calls on a GPU: the ops in place of the PTX machine. `BBS_EXECUTOR=device` makes tests/ptx run on it.

`where` is "cuda" but for the tests of this file.
"""

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


def tensor(array: np.ndarray, operand: str, where: str) -> torch.Tensor:
    """As stored by the executor; bf16 arrives as its bits."""
    t = torch.from_numpy(np.ascontiguousarray(array))
    if operand == "bf16" and array.dtype == np.uint16:
        t = t.view(torch.int16).view(torch.bfloat16)
    return t.to(where)


def arguments(call: Forward, where: str) -> dict:
    p: Problem = call.p
    w = tensor(call.w, call.operand, where)
    length = len(p.w) if call.transposed else p.w.shape[1]  # of a line of memory
    w = w[:, :length].t() if call.transposed else w[:, :length]
    k = p.k if p.rule == "topk" else 0
    return {
        "x": tensor(call.x, call.operand, where),
        "w": w,
        "labels": torch.from_numpy(p.labels.astype(np.int64)).to(where),
        "offsets": torch.tensor(p.offsets.tolist()),  # of classes: call.offsets are the kernels', of centres
        "guard": None
        if p.guard_rows is None
        else torch.from_numpy(p.guard_rows.astype(np.float32)).to(where),
        "aliases": None if p.aliases is None else torch.from_numpy(p.aliases.astype(np.int64)).to(where),
        "scale": p.scale,
        "rule": RULES[p.rule],
        "k": k,
        "skip": p.skip if k else 0,
        "guard_kind": GUARDS[p.guard],
        "guard_value": p.guard_value,
        "ignore_index": p.ignore_index,
        "allow_tf32": call.operand == "tf32",
        "subcenters": p.subcenters,
        "row_basket": None if p.row_basket is None else torch.from_numpy(p.row_basket).to(where),
        "row_alias": None if p.row_alias is None else torch.from_numpy(p.row_alias).to(where),
    }


def run_forward(call: Forward, where: str) -> Result:
    """With a margin, call.losses as well."""
    if call.margin:
        family = dict(zip(("m1", "m2", "m3", "boundary", "target_grad"), call.margin, strict=True))
        given = {name: v for name, v in arguments(call, where).items() if not name.startswith("row_")}
        *losses, lse, cos_t, idx, cos, _ = OPS.margin_softmax(**given, **family)
        call.losses = [t.cpu().numpy() for t in losses]
    else:
        lse, cos_t, idx, cos, _ = OPS.cos_lse(**arguments(call, where), mined_in_lse=call.p.mined_in_lse)
    idx = torch.div(idx, call.p.subcenters, rounding_mode="floor")
    return Result(*(t.cpu().numpy() for t in (lse, cos_t, idx, cos)))


def run_backward(call: Backward, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    given = arguments(call, where)
    for name in ("k", "skip"):
        given.pop(name)
    saved = call.forward
    shape = (len(call.p.labels), call.p.baskets, -1 if saved.mined_idx.size else 0)

    def floats(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(where)

    dx, dw = OPS.cos_lse_backward(
        floats(call.u), floats(call.t), **given, lse=floats(saved.lse), cos_t=floats(saved.cos_t),
        mined_idx=torch.from_numpy(call.mined_centres()).reshape(shape).to(where),
        mined_cos=floats(saved.mined_cos).reshape(shape), stash=floats(np.empty(0)), class_index=None,
        need_dx=call.need_dx, need_dw=call.need_dw,
    )  # fmt: skip
    return (
        dx.double().cpu().numpy() if call.need_dx else None,
        dw.double().cpu().numpy() if call.need_dw else None,
    )


def forward(call: Forward) -> Result:
    OPS.take_bad_label()
    result = run_forward(call, "cuda")
    call.stats = {}
    call.bad_label, call.bad_label_classes = OPS.take_bad_label().tolist()
    return result


def backward(call: Backward) -> tuple[np.ndarray | None, np.ndarray | None]:
    OPS.take_bad_label()
    gradients = run_backward(call, "cuda")
    OPS.take_bad_label()
    return gradients


__all__ = ["NO_LABEL", "backward", "bbs_kernels", "chosen", "forward", "run_backward", "run_forward"]
