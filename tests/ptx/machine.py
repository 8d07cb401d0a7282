"""Runs the CUDA forward in the PTX machine: nvcc's PTX, launched with the plan and the parameter bytes of `_core`."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bbs_kernels import _core
from bbs_kernels.rules import Ema, TopK, ema_guard
from cpu.problem import Problem

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "ptxvm"))

import ptxvm  # noqa: E402  (needs the path above)

CACHE = ROOT / "build" / "ptx-cache"
ARCH = "sm_80"
CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
ELEMENT = {torch.float32: "float", torch.float16: "Fp16", torch.bfloat16: "Bf16"}
SWEEPS = ("own", "dense", "mine")

SOURCE = """// {digest}
#include "cuda/rows.cuh"
#include "cuda/forward.cuh"
#include "cuda/merge.cuh"
namespace bbs::cuda {{
using P = {product};
template __global__ void row_norm_kernel<{element}>(const __grid_constant__ ForwardParams);
template __global__ void target_cos_kernel<P, {rows}>(const __grid_constant__ ForwardParams);
template __global__ void forward_kernel<P, {rows}, Sweep::{sweep}>(const __grid_constant__ ForwardParams);
}}
"""


@functools.cache
def digest() -> str:
    """Of every header a kernel includes, so that the cache never serves yesterday's kernel."""
    files = sorted(f for folder in ("cuda", "common") for f in (ROOT / "csrc" / folder).rglob("*.*h"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


def product_of(x: torch.dtype, w: torch.dtype, tf32: bool = False) -> str:
    if x == torch.float32:
        return "MmaTf32" if tf32 else "Simt"
    return f"Mma16<{ELEMENT[x]}>" if w == x else f"MmaMixed<{ELEMENT[x]}>"


@functools.cache
def ptx_text(product: str, element: str, rows: str, sweep: str) -> str:
    source = SOURCE.format(digest=digest(), product=product, element=element, rows=rows, sweep=sweep)
    return ptxvm.compile_ptx(source, arch=ARCH, include_dirs=[str(ROOT / "csrc")], cache_dir=CACHE)


@functools.cache
def module(product: str, element: str, rows: str, sweep: str) -> ptxvm.Module:
    return ptxvm.Module.from_ptx(ptx_text(product, element, rows, sweep))


def sweep_of(problem: Problem) -> str:
    rule, k, *_ = problem.mining.op_arguments()
    return {0: "dense", 1: "own", 2: "dense", 3: "mine" if k else "own"}[rule]


def aligned(t: Tensor) -> bool:
    """May 16-byte copies read it?"""
    return (
        t.stride(1) == 1
        and t.shape[1] * t.element_size() % 16 == 0
        and t.stride(0) * t.element_size() % 16 == 0
    )


class Memory:
    """Device memory for one call; tensors keep their strides."""

    def __init__(self, device: ptxvm.Device):
        self.device = device
        self.keep: list[object] = []

    def tensor(self, t: Tensor, name: str) -> tuple[int, int, int]:
        """A 2-d tensor as (pointer, row stride, column stride), in its whole storage."""
        flat = torch.empty(0, dtype=t.dtype).set_(t.detach().untyped_storage())
        bits = flat.view(torch.int16) if t.element_size() == 2 else flat
        pointer = self.array(bits.numpy(), name)
        return (pointer + t.storage_offset() * t.element_size(), *t.stride())

    def array(self, a: np.ndarray, name: str) -> int:
        if a.size == 0:
            a = np.zeros(1, a.dtype)
        buffer = self.device.alloc(np.ascontiguousarray(a), name=name)
        self.keep.append(buffer)
        return buffer.ptr

    def empty(self, count: int, dtype: str, name: str) -> ptxvm.Buffer:
        buffer = self.device.alloc((max(count, 1),), dtype, name=name)
        self.keep.append(buffer)
        return buffer


def forward(
    problem: Problem,
    seed: int = 0,
    blocks: int = 1,
    tf32: bool = False,
    text: str | None = None,
    checks: dict[str, object] | bool | None = None,
    stats: dict[str, ptxvm.Stats] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(lse, cos_t, mined_idx, mined_cos) of the kernels. `blocks`: how many blocks the imagined GPU runs at once.
    `text`: PTX to run instead. `stats`: receives the machine's counts of each kernel."""
    x, w = problem.x.detach(), problem.w.detach()
    rule, k, skip, guard_kind, guard_value = problem.mining.op_arguments()
    skip = skip if k else 0
    rows, depth = x.shape
    offsets = problem.offsets.tolist()
    baskets = len(offsets) - 1
    loader = "AsyncRows" if aligned(x) and aligned(w) else "AnyRows"
    key = (product_of(x.dtype, w.dtype, tf32), ELEMENT[x.dtype], loader, sweep_of(problem))
    device = ptxvm.Device(ptxvm.Module.from_ptx(text) if text else module(*key))
    memory = Memory(device)
    plan = _core.plan_forward(rows, CODES[x.dtype], CODES[w.dtype], offsets, k, skip, blocks)
    splits, segments = plan["splits"], plan["segment_count"]

    guard = None
    if isinstance(ema_guard(problem.mining), Ema):
        home = torch.bucketize(problem.labels.clamp_min(0), problem.offsets[1:], right=True).clamp_max(
            baskets - 1
        )
        guard = (problem.ema[home] * problem.mining.guard.r).float().numpy()  # type: ignore[index, union-attr]
    lists = plan["list_length"]
    out = {
        "lse": memory.empty(rows, "f4", "lse"),
        "cos_target": memory.empty(rows, "f4", "cos_target"),
        "mined_idx": memory.empty(rows * baskets * k, "i8", "mined_idx"),
        "mined_cos": memory.empty(rows * baskets * k, "f4", "mined_cos"),
    }
    work = {
        "inv_norm": memory.empty(rows, "f4", "inv_norm"),
        "row_basket": memory.empty(rows, "i4", "row_basket"),
        "order": memory.empty(rows, "i4", "order"),
        "counts": memory.empty(1, "i4", "counts"),
        "pairs": memory.empty(splits * rows * 2, "f4", "pairs"),
        "queues": memory.empty(
            plan["sweep"]["grid"][0] * splits * 128 * plan["queue_length"], "u8", "queues"
        ),
        "lists": memory.empty(rows * lists, "u8", "lists"),
    }
    mates = memory.empty(rows * segments, "i4", "mates") if problem.aliases is not None and k else None
    flag = device.alloc(np.zeros(2, "i8"), name="bad_label")
    values = {
        **{name: b.ptr for name, b in {**out, **work}.items()},
        "x": memory.tensor(x, "x"),
        "w": memory.tensor(w, "w"),
        "labels": memory.array(problem.labels.numpy(), "labels"),
        "offsets": memory.array(problem.offsets.numpy(), "offsets"),
        "aliases": 0 if problem.aliases is None else memory.array(problem.aliases.numpy(), "aliases"),
        "guard_rows": 0 if guard is None else memory.array(guard, "guard_rows"),
        **{n: memory.array(np.frombuffer(plan[n], "i4"), n) for n in ("segments", "split_begin", "basket_begin")},
        "mates": mates.ptr if mates else 0,
        "bad_label": flag.ptr,
        "ignore_index": problem.ignore_index, "classes": len(w), "list_length": lists, "rows": rows, "depth": depth,
        "baskets": baskets, "splits": splits, "segment_count": segments, "rule": rule, "guard_kind": guard_kind,
        "k": k, "skip": skip, "guard_value": guard_value, "scale": problem.scale,
    }  # fmt: skip
    argument = _core.pack_forward(values)
    for name, stage in (
        ("row_norm_kernel", "norms"),
        ("row_order_kernel", "order"),
        ("target_cos_kernel", "target"),
        ("forward_kernel", "sweep"),
        ("merge_kernel", "merge"),
    ):
        if rows:
            shape = plan[stage]
            counted = device.launch(
                name, shape["grid"], shape["block"], [argument], shape["shared"], seed=seed, checks=checks
            )
            if stats is not None:
                stats[name] = counted
    for name, buffer in out.items():
        if name[:5] != "mined" or k:
            assert rows == 0 or buffer.valid_mask().all(), f"{name} is not written everywhere"
    shape = (rows, baskets, k)
    count = rows * baskets * k
    return (
        torch.from_numpy(out["lse"].numpy()[:rows].copy()) if rows else torch.empty(0),
        torch.from_numpy(out["cos_target"].numpy()[:rows].copy()) if rows else torch.empty(0),
        torch.from_numpy(_read(out["mined_idx"], count)).reshape(shape),
        torch.from_numpy(_read(out["mined_cos"], count)).reshape(shape),
    )


def _read(buffer: ptxvm.Buffer, count: int) -> np.ndarray:
    return buffer.numpy()[:count].copy() if count else np.zeros(0, buffer.dtype)


__all__ = ["TopK", "forward", "module", "ptx_text"]
