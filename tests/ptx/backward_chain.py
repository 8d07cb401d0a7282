"""Runs a whole training step's kernels on one device, forward and backward, each fed by the ones before it."""

from __future__ import annotations

import ctypes

import numpy as np
import ptxvm
from backward_executor import Backward, ints, pointer
from backward_rows import PAIR, SORT_SOURCE, packed, plan_sort, rows_library, rows_source
from executor import Forward, module
from oracle import RULES


class Chain(Backward):
    """As Backward, but with nothing made in NumPy: x-hat, factors, pairs, their order and dx come from kernels."""

    def __init__(self, p, operand, u, t, **options) -> None:
        super().__init__(p, operand, u, t, **options)
        names = ("w_bytes", "transposed", "arch", "multiprocessors", "w_padding")
        forward = Forward(p, operand, **{n: options[n] for n in names if n in options})
        self.forward_source = forward.source

    def run(
        self, *, seed: int = 0, checks: dict | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        p, plan, dense, built = self.p, self.plan, self.dense, module(self.forward_source, self.arch)
        self._start(built, seed, checks)
        self._launch("prepare_rows", (plan["prepare_blocks"],), 0, self.packed)
        self._launch("order_rows", (plan["order_blocks"],), 0, self.packed)
        self._launch("cos_lse_sweep", (plan["row_blocks"], plan["splits"]), plan["shared_bytes"], self.packed)
        self._launch("merge_splits", (plan["merge_blocks"],), 0, self.packed)

        rows, dim = p.x.shape
        k = p.k if p.rule == "topk" else 0
        count, element = rows * (1 + p.baskets * k), self.x.dtype.itemsize
        out = {
            name: self.dev.alloc((max(1, size),), "u1", name=name)
            for name, size in {
                "x_hat": dense["padded_rows"] * dense["padded_dim"] * element, "lse_log2e": dense["padded_rows"] * 4,
                "row_factor": dense["padded_rows"] * 4, "grad_scale": 4, "sparse_dx": rows * dim * 4,
                "sparse_dot": rows * 4, "pairs": count * PAIR.itemsize, "dx": rows * dim * element,
                "sorted": count * PAIR.itemsize,
            }.items()
        }  # fmt: skip
        at = {name: buffer.ptr for name, buffer in out.items()}
        upstream = [self._given(self.u, "grad_lse").ptr, self._given(self.t, "grad_cos_t").ptr]
        lse = self.outputs[0].ptr
        self.modules = {name: module(source, self.arch) for name, source in self._sources().items()}

        rows_args = self._pack_rows(at, upstream, 0)
        lane_values = np.zeros(4, np.int64)
        rows_library().bbs_plan_rows(
            ctypes.c_int64(dim), ctypes.c_int64(self.transposed), pointer(lane_values)
        )
        _, *threads = map(int, lane_values)
        self._launch_of("rows", "row_scale", (1,), rows_args, threads[0])
        self._launch_of("rows", "backward_pairs", (dense["padded_rows"],), rows_args, threads[1])
        self._sort(count, at)
        arrays = [at[n] for n in ("x_hat", "lse_log2e", "row_factor", "grad_scale", "sorted")]
        dw, workspace = self._run_dense([*arrays, lse], count)
        if self.need_dx:
            self._launch_of(
                "rows", "finish_rows", (rows,), self._pack_rows(at, upstream, workspace.ptr), threads[2]
            )
        dx = self._read(out["dx"], (rows, dim)) if self.need_dx else None
        return dx, self._read_dw(dw) if self.need_dw else None

    def _sources(self) -> dict[str, str]:
        values = np.zeros(4, np.int64)
        dim = self.p.x.shape[1]
        rows_library().bbs_plan_rows(ctypes.c_int64(dim), ctypes.c_int64(self.transposed), pointer(values))
        return {
            "rows": rows_source(self.operand, self.w_bytes, self.transposed, int(values[0])),
            "sort": SORT_SOURCE,
            "dense": self.source,
        }

    def _launch(self, kernel, grid, shared, arguments, threads=128) -> None:
        dense = ("find_baskets", "coefficients", "normalize_classes", "gradient_rows", "gradient_classes")
        super()._launch(
            self.modules["dense"].kernel(kernel) if kernel in dense else kernel,
            grid,
            shared,
            arguments,
            threads,
        )

    def _launch_of(self, source: str, kernel: str, grid: tuple, arguments: bytes, threads: int) -> None:
        super()._launch(self.modules[source].kernel(kernel), grid, 0, arguments, threads)

    def _pack_rows(self, at: dict[str, int], upstream: list[int], workspace: int) -> bytes:
        p, dense = self.p, self.dense
        rows, dim = p.x.shape
        k = p.k if p.rule == "topk" else 0
        shape = [
            rows, dim, len(p.w), p.baskets, RULES[p.rule], k, *self.strides, p.ignore_index, dense["padded_rows"],
            dense["padded_dim"], self.need_dx, dense["splits"], dense["splits"], rows * dim, rows, dim,
        ]  # fmt: skip
        inverse, cos_target, _, basket, order = (self.first.ptr + place for place in self.places)
        lse, _, mined_idx, mined_cos = (b.ptr for b in self.outputs)
        addresses = [
            self.inputs[0].ptr, self.inputs[1].ptr, self.inputs[2].ptr, inverse, cos_target, basket, order, *upstream,
            lse, mined_idx, mined_cos, workspace + dense["dx_partials"], workspace + dense["dot_partials"],
            *(at[n] for n in ("x_hat", "lse_log2e", "row_factor", "grad_scale", "sparse_dx", "sparse_dot", "pairs",
                              "dx")),
        ]  # fmt: skip
        params = np.zeros(1024, np.uint8)
        size = rows_library().bbs_pack_rows(
            ints(shape), ints(addresses), ctypes.c_double(p.scale), pointer(params)
        )
        return params[:size].tobytes()

    def _sort(self, count: int, at: dict[str, int]) -> None:
        classes, sort, lib = len(self.p.w), plan_sort(count, len(self.p.w)), rows_library()
        room = self.dev.alloc((max(1, sort["workspace"]),), "u1", name="sort_workspace")
        for n in range(sort["passes"]):
            args = packed(lib.bbs_pack_sort_pass, count, classes, n, at["pairs"], room.ptr)
            self._launch_of("sort", "count_digits", (sort["blocks"],), args, sort["threads"])
            self._launch_of("sort", "scan_digits", (sort["digits"],), args, sort["threads"])
            self._launch_of("sort", "scatter_digits", (sort["blocks"],), args, sort["threads"])
        args = packed(lib.bbs_pack_gather, count, classes, at["pairs"], at["sorted"], room.ptr)
        self._launch_of("sort", "gather_pairs", (sort["gather_blocks"],), args, sort["threads"])

    def _read(self, buffer: ptxvm.Buffer, shape: tuple) -> np.ndarray:
        kind = {"bf16": np.uint16, "fp16": np.float16}.get(self.operand, np.float32)
        size = shape[0] * shape[1] * np.dtype(kind).itemsize
        assert buffer.valid_mask()[:size].all(), "an element of dx was never written"
        values = buffer.numpy()[:size].view(kind).reshape(shape)
        return (ptxvm.from_bf16(values) if kind is np.uint16 else values).astype(np.float64)
