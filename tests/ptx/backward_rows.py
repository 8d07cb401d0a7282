"""Runs the backward's per-row kernels and the sort of its pairs in the PTX machine, launched as their plans say."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ptxvm
import torch
from executor import ARCH, TYPES, stored
from oracle import RULES, Problem, Result

from bbs_kernels import _core
from support.emulated_gpu.images import kernel_digest, ptx_of, shipped_ptx
from support.emulated_gpu.library import CACHE, CSRC

NO_PAIR = 0x7FFFFFFF
INTEGER = ctypes.c_int64
PAIR = np.dtype(
    [("label", "i4"), ("position", "i4"), ("coefficient", "f4"), ("cos", "f4"), ("class_inverse", "f4")]
)
ONE = {"fp16": 2.0**14}  # kOne of the operand types, 1 for the others
CUDA = CSRC / "cuda"


@functools.cache
def rows_library() -> ctypes.CDLL:
    source = Path(__file__).with_name("backward_rows_abi.cpp")
    key = hashlib.sha256(source.read_bytes() + kernel_digest().encode()).hexdigest()[:16]
    path = CACHE / f"rows-{key}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["c++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{CUDA}", str(source), "-o", str(new)],
            check=True,
        )
        new.rename(path)
    library = ctypes.CDLL(str(path))
    for name in ("bbs_pack_sort_pass", "bbs_pack_gather", "bbs_pack_rows"):
        getattr(library, name).restype = INTEGER
    return library


def packed(function, *values: int) -> bytes:
    """The struct that a bbs_pack_* function writes."""
    room = np.zeros(1024, np.uint8)
    size = function(*map(INTEGER, values), ctypes.c_void_p(room.ctypes.data))
    return room[:size].tobytes()


def plan_sort(count: int, classes: int) -> dict[str, int]:
    names = ("passes", "digits", "blocks", "gather_blocks", "workspace", "threads")
    values = np.zeros(len(names), np.int64)
    rows_library().bbs_plan_sort(INTEGER(count), INTEGER(classes), ctypes.c_void_p(values.ctypes.data))
    return dict(zip(names, map(int, values), strict=True))


def sort_pairs(
    pairs: np.ndarray,
    classes: int,
    *,
    seed: int = 0,
    arch: int = ARCH,
    mutated: dict[str, str] | None = None,
    checks: dict | None = None,
) -> np.ndarray:
    plan, count = plan_sort(len(pairs), classes), len(pairs)

    def launch(kernel: str, blocks: int, arg: list[bytes]) -> None:
        found = kernel_of(f"bbs_{kernel}", arch, mutated)
        dev.launch(found, blocks, plan["threads"], arg, seed=seed, checks=checks)

    dev = ptxvm.Device()
    given = dev.alloc(pairs.view(np.uint8), name="pairs")
    out = dev.alloc((count * PAIR.itemsize,), "u1", name="sorted")
    workspace = dev.alloc((plan["workspace"],), "u1", name="workspace")
    library = rows_library()
    for n in range(plan["passes"]):
        arg = [packed(library.bbs_pack_sort_pass, count, classes, n, given.ptr, workspace.ptr)]
        launch("count_digits", plan["blocks"], arg)
        launch("scan_digits", plan["digits"], arg)
        launch("scatter_digits", plan["blocks"], arg)
    arg = [packed(library.bbs_pack_gather, count, classes, given.ptr, out.ptr, workspace.ptr)]
    launch("gather_pairs", plan["gather_blocks"], arg)
    return out.numpy().view(PAIR)


@dataclass
class RowInput:
    """What the kernels get besides the problem: the forward's results and what prepare_rows and order_rows found."""

    forward: Result
    inverse_norm: np.ndarray  # [B]
    basket: np.ndarray  # [B], or the codes of NoBasket
    order: np.ndarray  # [B]
    grad_lse: np.ndarray  # [B]
    grad_cos_t: np.ndarray  # [B]
    dx_partials: np.ndarray  # [splits, B, D] by position
    dot_partials: np.ndarray  # [splits, B] by position


def symbol_of(kernel: str, **types: object) -> str:
    """The instantiation of a kernel that depends on `types`, as `_core.cuda_kernels()` describes it."""
    all_of_them = (k for k in _core.cuda_kernels() if k["kernel"] == kernel)
    (symbol,) = (k["symbol"] for k in all_of_them if all(k.get(n, v) == v for n, v in types.items()))
    return symbol


@functools.lru_cache(maxsize=64)
def built(symbol: str, arch: int) -> object:
    text = shipped_ptx(symbol, arch) or ptx_of(symbol, f"sm_{arch}")
    return ptxvm.Module.from_ptx(text).kernel(symbol)


def kernel_of(symbol: str, arch: int, mutated: dict[str, str] | None = None) -> object:
    if mutated and symbol in mutated:
        return ptxvm.Module.from_ptx(mutated[symbol]).kernel(symbol)
    return built(symbol, arch)


def array(dtype: torch.dtype, values: np.ndarray) -> np.ndarray:
    """As the machine holds it: bf16 by its bits."""
    t = stored(dtype, values)
    return (t.view(torch.int16) if dtype == torch.bfloat16 else t).numpy()


def run_rows(
    p: Problem,
    given: RowInput,
    operand: str,
    *,
    w_bytes: int,
    transposed: bool = False,
    padding: tuple[int, int, int] = (0, 0, 0),
    need_dx: bool = True,
    seed: int = 0,
    arch: int = ARCH,
) -> dict[str, np.ndarray]:
    """Everything that row_scale, backward_pairs and finish_rows write. `padding`: columns of NaN behind x and w, and
    columns that stay untouched behind dx."""
    rows, dim = p.x.shape
    plan = np.zeros(4, np.int64)
    rows_library().bbs_plan_rows(INTEGER(dim), INTEGER(transposed), ctypes.c_void_p(plan.ctypes.data))
    values, *threads = map(int, plan)
    dev = ptxvm.Device()
    x = array(TYPES[operand], np.pad(p.x, ((0, 0), (0, padding[0])), constant_values=np.nan))
    w = np.pad(p.w.T if transposed else p.w, ((0, 0), (0, padding[1])), constant_values=np.nan)
    w = array(TYPES[operand] if w_bytes == 2 else torch.float32, w)
    k = p.k if p.rule == "topk" else 0
    slots = 1 + p.baskets * k
    padded_rows, padded_dim, dx_stride = -(-rows // 16) * 16, -(-dim // 32) * 32, dim + padding[2]
    shape = [
        rows, dim, len(p.w), p.baskets, RULES[p.rule], k, x.shape[1], w.shape[1], p.ignore_index, padded_rows,
        padded_dim, need_dx, len(given.dx_partials), dx_stride,
    ]  # fmt: skip
    f, one = given.forward, ONE.get(operand, 1.0)
    partials = np.pad(given.dx_partials, ((0, 0), (0, 0), (0, padded_dim - dim)), constant_values=np.nan)
    inputs = [
        x, w, p.labels.astype(np.int64), given.inverse_norm.astype("f4"), f.cos_t.astype("f4"),
        given.basket.astype("i4"), given.order.astype("i4"), given.grad_lse.astype("f4"),
        given.grad_cos_t.astype("f4"), f.lse.astype("f4"), f.mined_idx.astype("i8"), f.mined_cos.astype("f4"),
        (one * partials).astype("f4"), (one * given.dot_partials).astype("f4"),
    ]  # fmt: skip
    element = np.dtype("u2") if operand == "bf16" else x.dtype
    room = {
        "x_hat": ((padded_rows, padded_dim), element), "dense_lse": ((padded_rows,), "f4"),
        "row_factor": ((padded_rows,), "f4"), "grad_scale": ((1,), "f4"), "sparse_dx": ((rows, dim), "f4"),
        "sparse_dot": ((rows,), "f4"), "pairs": ((rows * slots * PAIR.itemsize,), "u1"),
        "dx": ((rows, dx_stride), element),
    }  # fmt: skip
    out = {name: dev.alloc(*of, name=name) for name, of in room.items()}
    buffers = [dev.alloc(np.ascontiguousarray(a)) if a.size else None for a in inputs]
    addresses = [0 if b is None else b.ptr for b in [*buffers, *out.values()]]
    params = np.zeros(1024, np.uint8)
    size = rows_library().bbs_pack_rows(
        (INTEGER * len(shape))(*map(int, shape)), (INTEGER * len(addresses))(*addresses),
        ctypes.c_double(p.scale), ctypes.c_void_p(params.ctypes.data),
    )  # fmt: skip
    arg = [params[:size].tobytes()]
    of_pairs = {"operand": operand, "w_bytes": w_bytes, "w_transposed": transposed, "lane_values": values}
    kernels = [
        (symbol_of("row_scale"), 1), (symbol_of("backward_pairs", **of_pairs), padded_rows),
        (symbol_of("finish_rows", operand=operand), rows if need_dx else 0),
    ]  # fmt: skip
    for (symbol, blocks), block in zip(kernels, threads, strict=True):
        if blocks:
            dev.launch(kernel_of(symbol, arch), blocks, block, arg, seed=seed)
    written = {name: b.valid_mask() for name, b in out.items()}
    assert not need_dx or written["dx"].sum() == rows * dim, "exactly dx, and nothing behind it"
    result = {name: b.numpy() for name, b in out.items() if written[name].any()}
    result["pairs"] = result["pairs"].view(PAIR).reshape(rows, slots)
    for name in ("x_hat", "dx"):
        if name in result:
            result[name] = result[name][:, : padded_dim if name == "x_hat" else dim]
            result[name] = ptxvm.from_bf16(result[name]) if operand == "bf16" else result[name]
    return result
