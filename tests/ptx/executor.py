"""Calls the ops as a case says: in the PTX machine, or with BBS_EXECUTOR=device on the GPU of this machine. Either way
the shipped op bodies run; only where the tensors live differs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from oracle import GUARDS, RULES, Problem, Result

from bbs_kernels import _core
from support.emulated_gpu import EmulatedGpu, RealGpu
from support.emulated_gpu.driver import Launch
from support.emulated_gpu.images import BUILT_ARCH

ON_DEVICE = os.environ.get("BBS_EXECUTOR") == "device"
ARCH = BUILT_ARCH
KERNELS = {kernel["symbol"]: kernel for kernel in _core.cuda_kernels()}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}


@functools.cache
def real_gpu() -> RealGpu:
    return RealGpu()


def gpu_of(arch: int) -> EmulatedGpu | RealGpu:
    return real_gpu() if ON_DEVICE else EmulatedGpu(arch)


def round_to(operand: str, values: np.ndarray) -> np.ndarray:
    """fp64 values as the main loop multiplies them."""
    v = values.astype(np.float32)
    if operand == "tf32":  # to nearest, ties away from zero
        bits = v.view(np.uint32)
        rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
        return np.where(np.isfinite(v), rounded, v).astype(np.float64)
    return torch.from_numpy(v).to(TYPES[operand]).double().numpy()


def stored(dtype: torch.dtype, values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(dtype)


def matrix(dtype: torch.dtype, values: np.ndarray, transposed: bool, padding: int) -> torch.Tensor:
    """A view with these values. `padding`: elements between its lines in memory, NaN, which no kernel may use."""
    lines = stored(dtype, values.T if transposed else values)
    memory = torch.full((lines.shape[0], lines.shape[1] + padding), torch.nan, dtype=dtype)
    view = memory[:, : lines.shape[1]].copy_(lines)
    return view.t() if transposed else view


def placed(t: torch.Tensor, where: str) -> torch.Tensor:
    """The same view of the same memory, elsewhere: `Tensor.to` would lay a view out anew."""
    elements = t.untyped_storage().nbytes() // t.element_size()
    return t.as_strided((elements,), (1,), 0).to(where).as_strided(t.shape, t.stride(), t.storage_offset())


class Forward:
    """One forward call. `p` holds fp64 values; they are stored in the operand's type, w in fp32 if w_bytes is 4.

    `x` and `w` give views that hold these values, where their strides matter. With a `margin` (m1, m2, m3, boundary,
    target_grad) `losses` holds loss, grad_lse and grad_cos_t after `run`.
    """

    def __init__(
        self,
        p: Problem,
        operand: str,
        *,
        w_bytes: int | None = None,
        transposed: bool = False,
        streaming: bool = False,
        arch: int = ARCH,
        multiprocessors: int = 2,
        w_padding: int = 0,
        x: torch.Tensor | None = None,
        w: torch.Tensor | None = None,
        margin: tuple[float, float, float, int, int] | None = None,
    ) -> None:
        self.p, self.operand, self.margin = p, operand, margin
        self.streaming, self.multiprocessors = streaming, multiprocessors
        self.gpu = gpu_of(arch)
        of_w = torch.float32 if w_bytes == 4 else TYPES[operand]
        self.x = stored(TYPES[operand], p.x) if x is None else x
        self.w = matrix(of_w, p.w, transposed, w_padding) if w is None else w
        self.launches: list[Launch] = []
        self.report: str | None = None  # of a label out of range

    def arguments(self) -> dict[str, Any]:
        """What forward and backward take, but for k and skip."""
        p, where = self.p, self.gpu.where

        def given(values: np.ndarray | None, dtype: type) -> torch.Tensor | None:
            return None if values is None else torch.from_numpy(values.astype(dtype)).to(where)

        return {
            "x": placed(self.x, where), "w": placed(self.w, where), "labels": given(p.labels, np.int64),
            "offsets": torch.from_numpy(p.offsets), "guard": given(p.guard_rows, np.float32),
            "aliases": given(p.aliases, np.int64), "scale": p.scale, "rule": RULES[p.rule],
            "guard_kind": GUARDS[p.guard], "guard_value": p.guard_value, "ignore_index": p.ignore_index,
            "allow_tf32": self.operand == "tf32", "subcenters": p.subcenters,
            "row_basket": given(p.row_basket, np.int64), "row_alias": given(p.row_alias, np.int64),
        }  # fmt: skip

    @contextlib.contextmanager
    def ops(self, seed: int, mutated: dict[str, str] | None, checks: dict | None) -> Iterator[Any]:
        """The ops, planned for what the case sets; what they launched and reported is noted."""
        with self.gpu.run(
            seed=seed,
            checks=checks,
            mutated=mutated,
            streaming=self.streaming,
            multiprocessors=self.multiprocessors,
        ) as ops:
            yield ops
            self.report = label_report(ops)
        self.launches = list(self.gpu.launches)

    def launched(self, kernel: str) -> list[Launch]:
        return [launch for launch in self.launches if KERNELS[launch.symbol]["kernel"] == kernel]

    def built(self, kernel: str) -> dict[str, Any]:
        """What the instantiation that ran depends on: resident, vectors, w_transposed, ..."""
        return KERNELS[self.launched(kernel)[0].symbol]

    def run(
        self, *, seed: int = 0, mutated: dict[str, str] | None = None, checks: dict | None = None
    ) -> Result:
        """`mutated`: PTX by symbol in place of the compiler's."""
        given = self.arguments()
        lists = self.p.rule == "topk" and self.p.k
        given |= {"k": self.p.k if lists else 0, "skip": self.p.skip if lists else 0}
        losses: list[torch.Tensor] = []
        with self.ops(seed, mutated, checks) as ops:
            if self.margin:
                family = dict(zip(("m1", "m2", "m3", "boundary", "target_grad"), self.margin, strict=True))
                given = {name: value for name, value in given.items() if not name.startswith("row_")}
                *losses, lse, cos_t, idx, cos, _ = ops.margin_softmax(**given, **family)
            else:
                lse, cos_t, idx, cos, _ = ops.cos_lse(**given, mined_in_lse=self.p.mined_in_lse)
        self.losses = [t.cpu().numpy() for t in losses]
        self.saved = lse, cos_t, idx, cos
        classes = torch.div(idx, self.p.subcenters, rounding_mode="floor")  # of the nearest centres
        return Result(*(t.cpu().numpy() for t in (lse, cos_t, classes, cos)))


def label_report(ops: Any) -> str | None:
    """What `bbs_kernels.check()` raises, once."""
    try:
        ops.check_labels()
    except RuntimeError as error:
        return str(error)
    return None
