"""Compiles the kernels to PTX (cached on the sources) and runs a forward call as the launch plan says."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from oracle import GUARDS, RULES, Problem, Result

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
CACHE = Path(os.environ.get("BBS_PTX_CACHE") or Path(tempfile.gettempdir()) / "bbs-ptx-cache")
sys.path.insert(0, str(ROOT / "tools" / "ptxvm"))

import ptxvm  # noqa: E402

OPERANDS = {"bf16": 0, "fp16": 1, "tf32": 2, "fp32": 3}
OP_TYPES = {"bf16": "Bf16", "fp16": "Fp16", "tf32": "Tf32", "fp32": "Fp32"}
INTEGER = ctypes.c_int64


@functools.cache
def source_hash() -> str:
    files = sorted([*CUDA.glob("*.cuh"), *CUDA.glob("*.h"), *(ROOT / "csrc" / "common").glob("*.h")])
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


@functools.cache
def plan_library() -> ctypes.CDLL:
    source = Path(__file__).with_name("plan_abi.cpp")
    key = hashlib.sha256(source.read_bytes() + source_hash().encode()).hexdigest()[:16]
    path = CACHE / f"plan-{key}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["c++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{CUDA}", str(source), "-o", str(new)],
            check=True,
        )
        new.rename(path)
    return ctypes.CDLL(str(path))


PLAN = ("resident", "tiles", "splits", "list_length", "row_blocks", "threads", "shared_bytes",
        "prepare_blocks", "order_blocks", "merge_blocks", "workspace")  # fmt: skip


def plan_forward(
    shape: list[int], offsets: np.ndarray, machine: list[int]
) -> tuple[dict[str, int], np.ndarray]:
    """The launch plan by name, and the first tile of each basket. `shape`: as plan_abi.cpp reads it; `machine`:
    compute capability as 80, and multiprocessors."""
    tile_begin = np.zeros(len(offsets), np.int32)
    values = np.zeros(len(PLAN), np.int64)
    plan_library().bbs_plan_forward(
        Forward._ints(shape), Forward._pointer(offsets), *map(INTEGER, machine),
        Forward._pointer(values), Forward._pointer(tile_begin),
    )  # fmt: skip
    return dict(zip(PLAN, map(int, values), strict=True)), tile_begin


@functools.cache
def ptx(source: str, arch: str) -> str:
    return ptxvm.compile_ptx(source, arch, [CUDA], [f"BBS_SOURCES={source_hash()}"], cache_dir=CACHE)


def kernel_source(operand: str, w_bytes: int, transposed: bool, resident: bool, vectors: bool) -> str:
    types = f"TileTypes<{OP_TYPES[operand]}, {w_bytes}, {str(transposed).lower()}>"
    sweep = f"SweepTypes<{types}, {str(resident).lower()}, {str(vectors).lower()}>"
    return f"""
#include "cos_lse_sweep.cuh"
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
    """One forward call. `p` holds fp64 values; they are stored in the operand's type, w in fp32 if w_bytes is 4."""

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
    ) -> None:
        self.p, self.operand = p, operand
        element = 2 if operand in ("bf16", "fp16") else 4
        self.w_bytes = w_bytes or element
        self.transposed = transposed
        x = stored(operand, p.x)
        w = stored(operand, p.w) if self.w_bytes == element else p.w.astype(np.float32)
        w = np.ascontiguousarray(w.T if transposed else w)
        if w_padding:
            w = np.pad(w, ((0, 0), (0, w_padding)))
        self.strides = [x.shape[1], w.shape[1]]
        vectors = x.shape[1] * element % 16 == 0 and w.shape[1] * self.w_bytes % 16 == 0
        self.shape = [
            OPERANDS[operand], self.w_bytes, transposed, vectors, len(p.labels), p.x.shape[1], len(p.w), p.baskets,
            RULES[p.rule], p.k, p.skip, p.aliases is not None, streaming,
        ]  # fmt: skip
        self.machine = [int(arch.removeprefix("sm_")), multiprocessors]
        self.offsets = np.ascontiguousarray(p.offsets, np.int64)
        self.plan, tile_begin = plan_forward(self.shape, self.offsets, self.machine)
        self.source = kernel_source(
            operand, self.w_bytes, transposed, bool(self.plan["resident"]), bool(vectors)
        )
        self.arch = arch
        self.x, self.w, self.tile_begin = x, w, tile_begin

    @staticmethod
    def _ints(values: list) -> ctypes.Array:
        return (INTEGER * len(values))(*map(int, values))

    @staticmethod
    def _pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def run(self, *, seed: int = 0, sweep_text: str | None = None, checks: dict | None = None) -> Result:
        """`sweep_text`: PTX in place of the compiler's, for mutations of the sweep."""
        p, plan = self.p, self.plan
        built = module(self.source, self.arch)
        dev = ptxvm.Device(built)
        rows, baskets = len(p.labels), p.baskets
        k = p.k if p.rule == "topk" else 0

        def given(array: np.ndarray | None, name: str):
            return None if array is None else dev.alloc(np.ascontiguousarray(array), name=name)

        inputs = [
            given(self.x, "x"), given(self.w, "w"), given(p.labels.astype(np.int64), "labels"),
            given(self.offsets, "offsets"), given(None if p.aliases is None else p.aliases.astype(np.int64), "aliases"),
            given(None if p.guard_rows is None else p.guard_rows.astype(np.float32), "guard"),
            given(self.tile_begin, "tile_begin"), dev.alloc(np.zeros(1, np.int32), name="bad_label"),
        ]  # fmt: skip
        outputs = [
            dev.alloc((rows,), "f4", name="lse"), dev.alloc((rows,), "f4", name="cos_target"),
            dev.alloc((max(1, rows * baskets * k),), "i8", name="mined_idx"),
            dev.alloc((max(1, rows * baskets * k),), "f4", name="mined_cos"),
        ]  # fmt: skip
        workspace = dev.alloc((max(1, plan["workspace"]),), "u1", name="workspace")
        pointers = [0 if b is None else b.ptr for b in [*inputs, *outputs, workspace]]
        packed = np.zeros(plan_library().bbs_params_bytes(), np.uint8)
        plan_library().bbs_pack_forward(
            self._ints(self.shape), self._pointer(self.offsets), *map(INTEGER, self.machine), self._ints(pointers),
            self._ints(self.strides), INTEGER(p.ignore_index), INTEGER(GUARDS[p.guard]), ctypes.c_double(p.scale),
            ctypes.c_double(p.guard_value), self._pointer(packed),
        )  # fmt: skip
        args = [packed.tobytes()]
        self.stats = {}

        def launch(where, name: str, grid, block: int, shared: int = 0) -> None:
            self.stats[name] = where.launch(name, grid, block, args, shared=shared, seed=seed, checks=checks)

        launch(dev, "prepare_rows", plan["prepare_blocks"], 128)
        launch(dev, "order_rows", plan["order_blocks"], 128)
        grid = (plan["row_blocks"], plan["splits"])
        if sweep_text is None:
            launch(dev, "cos_lse_sweep", grid, plan["threads"], plan["shared_bytes"])
        else:
            kernel = ptxvm.Module.from_ptx(sweep_text).kernel("cos_lse_sweep")
            dev.launch(
                kernel, grid, plan["threads"], args, shared=plan["shared_bytes"], seed=seed, checks=checks
            )
        launch(dev, "merge_splits", plan["merge_blocks"], 128)
        self.bad_label = int(inputs[7].numpy()[0])
        lse, cos_t, idx, cos = (
            (b.numpy() for b in outputs) if k else (*(b.numpy() for b in outputs[:2]), None, None)
        )
        shape = (rows, baskets, k)
        return Result(
            lse, cos_t,
            idx.reshape(shape) if k else np.zeros(shape, np.int64),
            cos.reshape(shape) if k else np.zeros(shape, np.float32),
        )  # fmt: skip
