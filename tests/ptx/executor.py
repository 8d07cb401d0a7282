"""Compiles the kernels to PTX (cached on the sources) and runs a forward call as the launch plan says."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import device
import numpy as np
from oracle import GUARDS, RULES, Problem, Result

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
CACHE = Path(os.environ.get("BBS_PTX_CACHE") or Path(tempfile.gettempdir()) / "bbs-ptx-cache")
sys.path.insert(0, str(ROOT / "tools" / "ptxvm"))

import ptxvm  # noqa: E402

from bbs_kernels import _core  # noqa: E402

OPERANDS = {"bf16": 0, "fp16": 1, "tf32": 2, "fp32": 3}
OP_TYPES = {"bf16": "Bf16", "fp16": "Fp16", "tf32": "Tf32", "fp32": "Fp32"}
NO_LABEL = 2**63 - 1  # params.h, BadLabel


@functools.cache
def source_hash() -> str:
    files = sorted([*CUDA.glob("*.cuh"), *CUDA.glob("*.h"), *(ROOT / "csrc" / "common").glob("*.h")])
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


@functools.cache
def ptx(source: str, arch: str) -> str:
    return ptxvm.compile_ptx(source, arch, [CUDA], [f"BBS_SOURCES={source_hash()}"], cache_dir=CACHE)


def sweep_types(types: str, plan: dict) -> str:
    resident, vectors = (str(plan.get(name, False)).lower() for name in ("resident", "vectors"))
    return (
        f"SubcenterTypes<{types}, {vectors}>"
        if plan["several"]
        else f"SweepTypes<{types}, {resident}, {vectors}>"
    )


def kernel_source(operand: str, w_bytes: int, plan: dict) -> str:
    types = f"TileTypes<{OP_TYPES[operand]}, {w_bytes}, {str(plan['w_transposed']).lower()}>"
    sweep = sweep_types(types, plan)
    return f"""
#include "cos_lse_sweep.cuh"
#include "merge_margin.cuh"
#include "merge_splits.cuh"
#include "order_rows.cuh"
#include "prepare_rows.cuh"
using namespace bbs::cuda;
template __global__ void bbs::cuda::cos_lse_sweep<{sweep}>(const __grid_constant__ ForwardParams);
template __global__ void bbs::cuda::prepare_rows<{types}>(const __grid_constant__ ForwardParams);
"""


@functools.lru_cache(maxsize=64)
def module(source: str, arch: str) -> ptxvm.Module:
    return ptxvm.Module.from_ptx(ptx(source, arch))


def kernel_of(name: str, mutated: tuple[str, str] | None) -> object:
    """What Device.launch takes: the kernel of the device's module, or of `mutated`."""
    if mutated is None or mutated[0] != name:
        return name
    return ptxvm.Module.from_ptx(mutated[1]).kernel(name)


def round_to(operand: str, values: np.ndarray) -> np.ndarray:
    """fp64 values as the main loop multiplies them."""
    v = values.astype(np.float32)
    if operand == "bf16":
        return ptxvm.from_bf16(ptxvm.to_bf16(v)).astype(np.float64)
    if operand == "fp16":
        return v.astype(np.float16).astype(np.float64)
    if operand == "tf32":  # to nearest, ties away from zero
        bits = v.view(np.uint32)
        rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
        return np.where(np.isfinite(v), rounded, v).astype(np.float64)
    return v.astype(np.float64)


def stored(operand: str, values: np.ndarray) -> np.ndarray:
    v = values.astype(np.float32)
    return ptxvm.to_bf16(v) if operand == "bf16" else v.astype(np.float16) if operand == "fp16" else v


class Forward:
    """One forward call. `p` holds fp64 values; they are stored in the operand's type, w in fp32 if w_bytes is 4.

    With a `margin` (m1, m2, m3, boundary, target_grad) `losses` holds loss, grad_lse and grad_cos_t after `run`.
    """

    def __init__(
        self,
        p: Problem,
        operand: str,
        *,
        w_bytes: int | None = None,
        transposed: bool = False,
        streaming: bool = False,
        arch: str = "sm_80",
        multiprocessors: int = 2,
        w_padding: int = 0,
        margin: tuple[float, float, float, int, int] | None = None,
    ) -> None:
        self.p, self.operand, self.margin = p, operand, margin
        element = 2 if operand in ("bf16", "fp16") else 4
        self.w_bytes = w_bytes or element
        self.transposed = transposed
        x = stored(operand, p.x)
        w = stored(operand, p.w) if self.w_bytes == element else p.w.astype(np.float32)
        w = np.ascontiguousarray(w.T if transposed else w)
        if w_padding:
            w = np.pad(w, ((0, 0), (0, w_padding)))
        self.x, self.w = x, w
        self.offsets = [int(v) * p.subcenters for v in p.offsets]
        self.machine = _core.machine_of(int(arch.removeprefix("sm_")), multiprocessors)
        self.streaming = streaming
        self.plan = _core.plan_forward(self._call({}), self.offsets, self.machine, streaming)
        self.source = kernel_source(operand, self.w_bytes, self.plan)
        self.arch = arch

    def _call(self, pointers: dict[str, int]) -> dict:
        """The call as `_core` takes it; what has no address yet is null, which is aligned like every allocation."""
        p = self.p
        columns = self.w.shape[1]
        w_strides = (1, columns) if self.transposed else (columns, 1)
        return {
            "x": (pointers.get("x", 0), len(p.labels), p.x.shape[1], self.x.shape[1], 1, self.x.itemsize),
            "w": (pointers.get("w", 0), len(p.w), p.x.shape[1], *w_strides, self.w_bytes),
            "operand": OPERANDS[self.operand],
            "labels": pointers.get("labels", 0),
            "aliases": pointers.get("aliases", p.aliases is not None),
            "guard_rows": pointers.get("guard", 0),
            "baskets": p.baskets,
            "ignore_index": p.ignore_index,
            "rule": RULES[p.rule],
            "guard_kind": GUARDS[p.guard],
            "k": p.k,
            "skip": p.skip,
            "scale": p.scale,
            "guard_value": p.guard_value,
            "row_basket": pointers.get("row_basket", p.row_basket is not None),
            "row_alias": pointers.get("row_alias", p.row_alias is not None),
            "mined_in_lse": p.mined_in_lse,
            "subcenters": p.subcenters,
        }

    def run(
        self, *, seed: int = 0, mutated: tuple[str, str] | None = None, checks: dict | None = None
    ) -> Result:
        """`mutated`: a kernel's name, and PTX to take it from in place of the compiler's."""
        if device.chosen():
            return device.forward(self)
        p, plan = self.p, self.plan
        built = module(self.source, self.arch)
        dev = ptxvm.Device(built)
        rows, baskets = len(p.labels), p.baskets
        k = p.k if p.rule == "topk" else 0

        def given(array: np.ndarray | None, name: str) -> dict:
            if array is None:
                return {}
            return {name: dev.alloc(np.ascontiguousarray(array if array.size else np.zeros(1)), name=name)}

        inputs = {
            **given(self.x, "x"), **given(self.w, "w"), **given(p.labels.astype(np.int64), "labels"),
            **given(None if p.aliases is None else p.aliases.astype(np.int64), "aliases"),
            **given(None if p.guard_rows is None else p.guard_rows.astype(np.float32), "guard"),
            **given(p.row_basket, "row_basket"), **given(p.row_alias, "row_alias"),
        }  # fmt: skip
        slots = max(1, rows * baskets * k)
        outputs = {
            "lse": dev.alloc((rows,), "f4", name="lse"), "cos_target": dev.alloc((rows,), "f4", name="cos_target"),
            "mined_idx": dev.alloc((slots,), "i8", name="mined_idx"),
            "mined_cos": dev.alloc((slots,), "f4", name="mined_cos"),
        }  # fmt: skip
        losses = {
            name: dev.alloc((rows,), "f4", name=name)
            for name in ("loss", "grad_lse", "grad_cos_t")
            if self.margin
        }
        memory = {
            **outputs,
            **losses,
            **given(np.array(self.offsets, np.int64), "offsets"),
            **given(np.array(plan["tile_begin"], np.int32), "tile_begin"),
            **given(np.array([NO_LABEL, 0], np.int64), "bad_label"),
            "workspace": dev.alloc((max(1, plan["workspace"]),), "u1", name="workspace"),
        }

        def packed(margin: tuple | None) -> bytes:
            return _core.pack_forward(
                self._call({name: buffer.ptr for name, buffer in inputs.items()}), self.offsets, self.machine,
                {name: buffer.ptr for name, buffer in memory.items()}, self.streaming, margin=margin,
            )  # fmt: skip

        self.stats = {}

        def launch(name: str, margin: tuple | None = None) -> None:
            shape = plan[name]
            self.stats[name] = dev.launch(
                kernel_of(name, mutated),
                shape["grid"],
                shape["block"],
                [packed(margin)],
                shared=shape["shared"],
                seed=seed,
                checks=checks,
            )

        launch("prepare_rows")
        launch("order_rows")
        launch("cos_lse_sweep")
        launch("merge_margin" if self.margin else "merge_splits", self.margin)
        self.losses = [buffer.numpy() for buffer in losses.values()]
        self.bad_label, self.bad_label_classes = map(int, memory["bad_label"].numpy())
        lse, cos_t, idx, cos = (buffer.numpy() for buffer in outputs.values())
        shape = (rows, baskets, k)
        idx //= p.subcenters  # the kernels list the nearest centres
        return Result(
            lse, cos_t,
            idx.reshape(shape) if k else np.zeros(shape, np.int64),
            cos.reshape(shape) if k else np.zeros(shape, np.float32),
        )  # fmt: skip
