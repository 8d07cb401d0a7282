"""Runs the dense part of a backward call in the PTX machine as its plan says, after prepare_rows and order_rows.

What the per-row kernels hand it (x-hat, log-sum-exps, factors, sorted pairs) is made here in NumPy from the fp64
forward, and so is the last step of dx; test_backward.py also runs the whole chain of kernels.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from executor import (
    CACHE,
    CUDA,
    GUARDS,
    OP_TYPES,
    Forward,
    module,
    plan_library,
    ptxvm,
    round_to,
    source_hash,
    stored,
)
from gradient_oracle import inverse_norms, unit
from oracle import Problem, forward

NO_PAIR = 0x7FFFFFFF
PAIR = np.dtype(
    [("label", "i4"), ("position", "i4"), ("coefficient", "f4"), ("cos", "f4"), ("class_inverse", "f4")]
)
PLAN = (
    "padded_rows", "padded_dim", "tiles", "run_tiles", "runs", "row_blocks", "column_blocks", "splits", "threads",
    "basket_blocks", "hat_columns", "coefficient_shared", "rows_shared", "classes_shared", "workspace",
    "dx_partials", "dot_partials",
)  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL:
    source = Path(__file__).with_name("backward_abi.cpp")
    key = hashlib.sha256(source.read_bytes() + source_hash().encode()).hexdigest()[:16]
    path = CACHE / f"backward-{key}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["c++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{CUDA}", str(source), "-o", str(new)],
            check=True,
        )
        new.rename(path)
    return ctypes.CDLL(str(path))


def kernel_source(operand: str, w_bytes: int, transposed: bool, vectors: bool) -> str:
    op = OP_TYPES[operand]
    types = f"TileTypes<{op}, {w_bytes}, {str(transposed).lower()}>"
    kernels = [
        f"coefficients<SweepTypes<{types}, false, {str(vectors).lower()}>>", f"normalize_classes<{types}>",
        f"gradient_rows<GemmTypes<{op}>>", f"gradient_classes<{types}>",
    ]  # fmt: skip
    return "\n".join(
        [
            '#include "coefficients.cuh"', '#include "gradient_classes.cuh"', '#include "gradient_rows.cuh"',
            '#include "order_rows.cuh"', '#include "prepare_rows.cuh"', "using namespace bbs::cuda;",
            f"template __global__ void bbs::cuda::prepare_rows<{types}>(const __grid_constant__ ForwardParams);",
            *(f"template __global__ void bbs::cuda::{k}(const __grid_constant__ DenseParams);" for k in kernels),
        ]
    )  # fmt: skip


def ints(values) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*map(int, values))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@dataclass
class RowInputs:
    """What the per-row kernels write, by sorted position; the log-sum-exps of the forward by row."""

    lse: np.ndarray
    x_hat: np.ndarray
    lse_log2e: np.ndarray
    row_factor: np.ndarray
    grad_scale: np.ndarray
    pairs: np.ndarray


class Backward(Forward):
    """One backward call with upstream gradients u [B] of the log-sum-exps and t [B] of the target cosines."""

    def __init__(
        self,
        p: Problem,
        operand: str,
        u: np.ndarray,
        t: np.ndarray,
        *,
        need_dx: bool = True,
        need_dw: bool = True,
        limit: int = 64 << 20,
        dw_padding: int | None = None,
        lse: np.ndarray | None = None,
        **options,
    ) -> None:
        super().__init__(p, operand, **options)
        self.u, self.t = u.astype(np.float32), t.astype(np.float32)
        self.need_dx, self.need_dw = need_dx, need_dw
        self.lse = lse  # the forward kernel's, else the oracle's
        self.request = ints([need_dx, need_dw, limit])
        self.c_shape, self.c_machine = ints(self.shape), ints(self.machine)
        values = np.zeros(len(PLAN), np.int64)
        library().bbs_plan_backward(
            self.c_shape, pointer(self.offsets), self.c_machine, self.request, pointer(values)
        )
        self.dense = dict(zip(PLAN, map(int, values), strict=True))
        self.dw_stride = (
            self.strides[1] if dw_padding is None else min(self.w.shape[1], self._natural()) + dw_padding
        )
        self.dw_vectors = (self.strides[1] * self.w_bytes % 16 == 0) and (
            self.dw_stride * self.w_bytes % 16 == 0
        )
        self.source = kernel_source(operand, self.w_bytes, self.transposed, bool(self.shape[3]))

    def _natural(self) -> int:
        return len(self.p.w) if self.transposed else self.p.w.shape[1]

    def row_inputs(self, order: np.ndarray) -> RowInputs:
        p, plan = self.p, self.dense
        rows = len(p.labels)
        out = forward(p)
        lse = out.lse.astype(np.float32) if self.lse is None else self.lse
        good = (p.labels >= 0) & (p.labels < len(p.w))
        x_hat = np.zeros((plan["padded_rows"], plan["padded_dim"]))
        usable = good & ~np.isnan(lse)
        x_hat[:rows, : p.x.shape[1]] = np.where(usable[order, None], unit(p.x)[order], 0)
        lse_log2e = np.full(plan["padded_rows"], np.inf, np.float32)
        lse_log2e[:rows] = np.where(good & ~np.isneginf(lse), lse * np.float32(np.log2(np.e)), np.inf)[order]
        scaled = np.where(usable, self.u.astype(np.float64) * p.scale, 0)
        top = np.abs(scaled).max(initial=0)
        factor = np.zeros(plan["padded_rows"], np.float32)
        if top > 0:
            factor[:rows] = (scaled / top)[order]
        pairs = []
        w_inverse = inverse_norms(p.w)
        for position, i in enumerate(order):
            if not good[i]:
                pairs.append((NO_PAIR, position, 0, 0, 0))
                continue
            label = p.labels[i]
            nan = np.nan if np.isnan(lse[i]) else 0.0
            pairs.append((label, position, self.t[i] + nan, out.cos_t[i], w_inverse[label]))
            for j, c in zip(out.mined_idx[i].ravel(), out.mined_cos[i].ravel(), strict=True):
                real = j >= 0
                value = scaled[i] * np.exp(p.scale * c - out.lse[i]) if real else 0
                pairs.append((j if real else NO_PAIR, position, value, c, w_inverse[j] if real else 0))
        pairs = np.array(pairs, PAIR).reshape(-1)
        pairs = pairs[np.lexsort((pairs["position"], pairs["label"]))]
        rounded = round_to(self.operand, x_hat)
        return RowInputs(
            lse, stored(self.operand, rounded), lse_log2e, factor, np.array([top], np.float32), pairs
        )

    def run(
        self, *, seed: int = 0, checks: dict | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """dx in fp64, finished by NumPy, and dw as stored; None where not asked for."""
        self._start(module(self.source, self.arch), seed, checks)
        self._launch("prepare_rows", (self.plan["prepare_blocks"],), 0, self.packed)
        self._launch("order_rows", (self.plan["order_blocks"],), 0, self.packed)
        order = self._order()
        made = self.row_inputs(order)
        arrays = [
            made.x_hat,
            made.lse_log2e,
            made.row_factor,
            made.grad_scale,
            made.pairs.view(np.uint8),
            made.lse,
        ]
        dw, workspace = self._run_dense([self._given(a, "rows").ptr for a in arrays], len(made.pairs))
        dx = self._finish(made, order, workspace.numpy(), workspace.valid_mask()) if self.need_dx else None
        return dx, self._read_dw(dw) if self.need_dw else None

    def _order(self) -> np.ndarray:
        at = self.places[4]
        return self.first.numpy()[at : at + len(self.p.labels) * 4].view(np.int32)

    def _given(self, array: np.ndarray, name: str) -> ptxvm.Buffer:
        array = np.ascontiguousarray(array)
        return self.dev.alloc(array, name=name) if array.size else self.dev.alloc((1,), "u1", name=name)

    def _launch(
        self, kernel, grid: tuple, shared: int, arguments: np.ndarray | bytes, threads: int = 128
    ) -> None:
        if min(grid) > 0:
            arguments = arguments if isinstance(arguments, bytes) else arguments.tobytes()
            self.stats[kernel] = self.dev.launch(
                kernel, grid, threads, [arguments], shared=shared, seed=self.seed, checks=self.checks
            )

    def _start(self, built: ptxvm.Module, seed: int, checks: dict | None) -> None:
        """Puts the problem on a device and packs the forward's parameters."""
        p = self.p
        self.dev, self.seed, self.checks, self.stats = ptxvm.Device(built), seed, checks, {}
        rows, k = len(p.labels), p.k if p.rule == "topk" else 0
        arrays = [
            self.x, self.w, p.labels.astype(np.int64), self.offsets,
            None if p.aliases is None else p.aliases.astype(np.int64),
            None if p.guard_rows is None else p.guard_rows.astype(np.float32), self.tile_begin, np.zeros(1, np.int32),
        ]  # fmt: skip
        self.inputs = [None if a is None else self._given(a, "input") for a in arrays]
        mined = rows * p.baskets * k
        self.outputs = [
            self.dev.alloc((max(1, count),), kind, name=name)
            for count, kind, name in [
                (rows, "f4", "lse"), (rows, "f4", "cos_target"), (mined, "i8", "mined_idx"), (mined, "f4", "mined_cos"),
            ]
        ]  # fmt: skip
        self.first = self.dev.alloc((max(1, self.plan["workspace"]),), "u1", name="forward_workspace")
        self.packed = np.zeros(plan_library().bbs_params_bytes(), np.uint8)
        addresses = [0 if b is None else b.ptr for b in [*self.inputs, *self.outputs, self.first]]
        plan_library().bbs_pack_forward(
            self.c_shape, pointer(self.offsets), *map(ctypes.c_int64, self.machine), ints(addresses),
            ints(self.strides), ctypes.c_int64(p.ignore_index), ctypes.c_int64(GUARDS[p.guard]),
            ctypes.c_double(p.scale), ctypes.c_double(p.guard_value), pointer(self.packed),
        )  # fmt: skip
        places = np.zeros(5, np.int64)
        library().bbs_forward_places(self.c_shape, pointer(self.offsets), self.c_machine, pointer(places))
        self.places = list(map(int, places))

    def _run_dense(self, row_arrays: list[int], pair_count: int) -> tuple[ptxvm.Buffer, ptxvm.Buffer]:
        """Every run. `row_arrays`: addresses of x_hat, lse_log2e, row_factor, grad_scale, sorted, lse."""
        dense = self.dense
        lines = self.p.w.shape[1] if self.transposed else len(self.p.w)
        dw = self.dev.alloc((max(1, lines * self.dw_stride * self.w_bytes),), "u1", name="dw")
        workspace = self.dev.alloc((max(1, dense["workspace"]),), "u1", name="workspace")
        for run in range(dense["runs"]):
            params = np.zeros(library().bbs_dense_bytes(), np.uint8)
            tiles = library().bbs_pack_dense(
                pointer(self.packed), self.c_shape, pointer(self.offsets), self.c_machine, self.request,
                ints([*row_arrays, dw.ptr, workspace.ptr]),
                ints([pair_count, self.dw_stride, self.dw_vectors, run]), pointer(params),
            )  # fmt: skip
            if run == 0:
                self._launch("find_baskets", (dense["basket_blocks"],), 0, params)
            self._launch("coefficients", (dense["row_blocks"], tiles), dense["coefficient_shared"], params)
            if self.need_dx:
                self._launch("normalize_classes", (tiles * 4, dense["hat_columns"]), 0, params)
                grid = (dense["row_blocks"], dense["column_blocks"], dense["splits"])
                self._launch("gradient_rows", grid, dense["rows_shared"], params)
            if self.need_dw:
                self._launch(
                    "gradient_classes", (tiles, dense["column_blocks"]), dense["classes_shared"], params
                )
        return dw, workspace

    def _read_dw(self, dw) -> np.ndarray:
        lines = self.p.w.shape[1] if self.transposed else len(self.p.w)
        natural = self._natural()
        kind = np.float32 if self.w_bytes == 4 else np.float16 if self.operand == "fp16" else np.uint16
        valid = dw.valid_mask()[: lines * self.dw_stride * self.w_bytes].reshape(
            lines, self.dw_stride, self.w_bytes
        )
        assert valid[:, :natural].all(), "an element of dw was never written"
        assert not valid[:, natural:].any(), "written between the rows of dw"
        values = dw.numpy()[: lines * self.dw_stride * self.w_bytes].view(kind).reshape(lines, self.dw_stride)
        values = values[:, :natural]
        values = (ptxvm.from_bf16(values) if kind is np.uint16 else values).astype(np.float64)
        return values.T if self.transposed else values

    def _finish(
        self, made: RowInputs, order: np.ndarray, bytes_: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        p, dense = self.p, self.dense
        rows, dim = p.x.shape

        def read(at: int, count: int) -> np.ndarray:
            assert valid[at : at + count * 4].all(), "a partial of dx was never written"
            return bytes_[at : at + count * 4].view(np.float32).astype(np.float64)

        splits = dense["splits"]
        v = read(dense["dx_partials"], splits * rows * dim).reshape(splits, rows, dim).sum(0)
        b = read(dense["dot_partials"], splits * rows).reshape(splits, rows).sum(0)
        factor = made.row_factor[:rows].astype(np.float64) * made.grad_scale[0]
        v, b = factor[:, None] * v, factor * b
        w = unit(p.w)
        for pair in made.pairs[made.pairs["label"] != NO_PAIR]:
            v[pair["position"]] += pair["coefficient"] * w[pair["label"]]
            b[pair["position"]] += pair["coefficient"] * pair["cos"]
        x = unit(p.x)[order]
        dx = np.zeros((rows, dim))
        dx[order] = inverse_norms(p.x)[order][:, None] * (v - b[:, None] * x)
        broken = np.isnan(made.lse_log2e[:rows]) | (
            (p.labels[order] != p.ignore_index) & ((p.labels[order] < 0) | (p.labels[order] >= len(p.w)))
        )
        dx[order[broken]] += np.nan
        self.dense_nan = np.isnan(v).any(1)
        return dx
