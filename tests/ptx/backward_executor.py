"""Runs a whole backward call in the PTX machine: the launches that `_core.plan_backward` lists, in order.

What the forward returned is made in NumPy from the fp64 oracle, or given.
"""

from __future__ import annotations

import device
import numpy as np
from executor import OP_TYPES, Forward, kernel_of, module, ptxvm, sweep_types
from oracle import Problem, Result, nearest
from oracle import forward as oracle_forward

from bbs_kernels import _core


def kernel_source(operand: str, w_bytes: int, plan: dict) -> str:
    op = OP_TYPES[operand]
    types = f"TileTypes<{op}, {w_bytes}, {str(plan['w_transposed']).lower()}>"
    sweep = sweep_types(types, plan)
    kernels = {
        f"prepare_rows<{types}>": "ForwardParams",
        f"backward_pairs<{types}, {plan['lane_values']}>": "BackwardRowParams",
        f"finish_rows<{op}>": "BackwardRowParams",
        f"coefficients<{sweep}>": "DenseParams",
        f"normalize_classes<{types}>": "DenseParams",
        f"gradient_rows<GemmTypes<{op}>>": "DenseParams",
        f"gradient_classes<{types}>": "DenseParams",
    }
    headers = (
        "backward_pairs", "coefficients", "finish_rows", "gradient_classes", "gradient_rows", "normalize_classes",
        "order_rows", "prepare_rows", "sort_pairs",
    )  # fmt: skip
    return "\n".join(
        [
            *(f'#include "{header}.cuh"' for header in headers),
            "using namespace bbs::cuda;",
            *(
                f"template __global__ void bbs::cuda::{kernel}(const __grid_constant__ {params});"
                for kernel, params in kernels.items()
            ),
        ]
    )


class Backward(Forward):
    """One backward call with upstream gradients u [B] of the log-sum-exps and t [B] of the target cosines.

    `forward`: what the forward kernels gave; the fp64 oracle's by default.
    """

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
        forward: Result | None = None,
        **options,
    ) -> None:
        super().__init__(p, operand, **options)
        self.u, self.t = u.astype(np.float32), t.astype(np.float32)
        self.need_dx, self.need_dw, self.limit = need_dx, need_dw, limit
        self.forward = forward or oracle_forward(p)
        self.dw_stride = self.w.shape[1] if dw_padding is None else self._natural() + dw_padding
        self.dense = self._plan({}, {})
        self.source = kernel_source(operand, self.w_bytes, self.dense)

    def _natural(self) -> int:
        return len(self.p.w) if self.transposed else self.p.w.shape[1]

    def mined_centres(self) -> np.ndarray:
        """[B, K, k] int64: the nearest centre of each class that the forward mined."""
        idx = self.forward.mined_idx.astype(np.int64)
        if self.p.subcenters == 1 or not idx.size:
            return idx
        rows = np.arange(len(idx))[:, None, None]
        return np.where(idx < 0, -1, nearest(self.p)[rows, np.maximum(idx, 0)])

    def _plan(self, inputs: dict[str, int], memory: dict[str, int]) -> dict:
        names = (
            "offsets",
            "tile_begin",
            "grad_lse",
            "grad_cos_t",
            "lse",
            "mined_idx",
            "mined_cos",
            "workspace",
        )
        strides = (1, self.dw_stride) if self.transposed else (self.dw_stride, 1)
        places = {
            **{name: memory.get(name, 0) for name in names},
            "dx": (memory.get("dx", 0), self.p.x.shape[1], 1) if self.need_dx else None,
            "dw": (memory.get("dw", 0), *strides) if self.need_dw else None,
        }
        return _core.plan_backward(self._call(inputs), self.offsets, self.machine, places, self.limit)

    def run(
        self, *, seed: int = 0, mutated: tuple[str, str] | None = None, checks: dict | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """dx and dw as fp64; None where not asked for."""
        if device.chosen():
            return device.backward(self)
        p = self.p
        rows, dim = p.x.shape
        out = self.forward
        self.dev = dev = ptxvm.Device(module(self.source, self.arch))

        def given(arrays: dict[str, np.ndarray | None]) -> dict[str, int]:
            return {
                name: dev.alloc(np.ascontiguousarray(a) if a.size else np.zeros(1, a.dtype), name=name).ptr
                for name, a in arrays.items()
                if a is not None
            }

        inputs = given(
            {
                "x": self.x, "w": self.w, "labels": p.labels.astype(np.int64),
                "aliases": None if p.aliases is None else p.aliases.astype(np.int64),
                "guard": None if p.guard_rows is None else p.guard_rows.astype(np.float32),
                "row_basket": p.row_basket, "row_alias": p.row_alias,
            }
        )  # fmt: skip
        memory = given(
            {
                "offsets": np.array(self.offsets, np.int64),
                "tile_begin": np.array(self.plan["tile_begin"], np.int32),
                "grad_lse": self.u, "grad_cos_t": self.t,
                "lse": out.lse.astype(np.float32),
                "mined_idx": self.mined_centres(), "mined_cos": out.mined_cos.astype(np.float32),
            }
        )  # fmt: skip
        dx_type = self.x.dtype.str if p.row_basket is None else "f4"  # of a shard: partial sums
        dx = dev.alloc((max(1, rows * dim),), dx_type, name="dx")
        lines = dim if self.transposed else len(p.w)
        dw = dev.alloc((max(1, lines * self.dw_stride * self.w_bytes),), "u1", name="dw")
        workspace = dev.alloc((max(1, self.dense["workspace"]),), "u1", name="workspace")
        memory |= {"dx": dx.ptr, "dw": dw.ptr, "workspace": workspace.ptr}
        self.stats = {}
        for kernel, grid, block, shared, parameters in self._plan(inputs, memory)["launches"]:
            self.stats[kernel] = dev.launch(
                kernel_of(kernel, mutated), grid, block, [parameters], shared=shared, seed=seed, checks=checks
            )
        return self._read_dx(dx) if self.need_dx else None, self._read_dw(dw) if self.need_dw else None

    def _read_dx(self, dx: ptxvm.Buffer) -> np.ndarray:
        rows, dim = self.p.x.shape
        values = dx.numpy()[: rows * dim].reshape(rows, dim)
        assert dx.valid_mask()[: values.nbytes].all(), "an element of dx was never written"
        return (ptxvm.from_bf16(values) if values.dtype == np.uint16 else values).astype(np.float64)

    def _read_dw(self, dw: ptxvm.Buffer) -> np.ndarray:
        lines = self.p.w.shape[1] if self.transposed else len(self.p.w)
        natural = self._natural()
        kind = np.float32 if self.w_bytes == 4 else np.float16 if self.operand == "fp16" else np.uint16
        size = lines * self.dw_stride * self.w_bytes
        valid = dw.valid_mask()[:size].reshape(lines, self.dw_stride, self.w_bytes)
        assert valid[:, :natural].all(), "an element of dw was never written"
        assert not valid[:, natural:].any(), "written between the rows of dw"
        values = dw.numpy()[:size].view(kind).reshape(lines, self.dw_stride)[:, :natural]
        values = (ptxvm.from_bf16(values) if kind is np.uint16 else values).astype(np.float64)
        return values.T if self.transposed else values
