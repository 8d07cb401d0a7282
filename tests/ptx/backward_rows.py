"""Runs the backward's per-row kernels and the sort of its pairs in the PTX machine, launched as their plans say."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
from executor import CACHE, CUDA, INTEGER, module, ptxvm, source_hash

NO_PAIR = 0x7FFFFFFF
PAIR = np.dtype(
    [("label", "i4"), ("position", "i4"), ("coefficient", "f4"), ("cos", "f4"), ("class_inverse", "f4")]
)
SORT_SOURCE = '#include "sort_pairs.cuh"\n'


@functools.cache
def rows_library() -> ctypes.CDLL:
    source = Path(__file__).with_name("backward_rows_abi.cpp")
    key = hashlib.sha256(source.read_bytes() + source_hash().encode()).hexdigest()[:16]
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
    library.bbs_pack_sort_pass.restype = library.bbs_pack_gather.restype = INTEGER
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


def sort_pairs(pairs: np.ndarray, classes: int, *, seed: int = 0, arch: str = "sm_80") -> np.ndarray:
    plan, count = plan_sort(len(pairs), classes), len(pairs)
    dev = ptxvm.Device(module(SORT_SOURCE, arch))
    given = dev.alloc(pairs.view(np.uint8), name="pairs")
    out = dev.alloc((count * PAIR.itemsize,), "u1", name="sorted")
    workspace = dev.alloc((plan["workspace"],), "u1", name="workspace")
    library = rows_library()
    for n in range(plan["passes"]):
        arg = [packed(library.bbs_pack_sort_pass, count, classes, n, given.ptr, workspace.ptr)]
        dev.launch("count_digits", plan["blocks"], plan["threads"], arg, seed=seed)
        dev.launch("scan_digits", plan["digits"], plan["threads"], arg, seed=seed)
        dev.launch("scatter_digits", plan["blocks"], plan["threads"], arg, seed=seed)
    arg = [packed(library.bbs_pack_gather, count, classes, given.ptr, out.ptr, workspace.ptr)]
    dev.launch("gather_pairs", plan["gather_blocks"], plan["threads"], arg, seed=seed)
    return out.numpy().view(PAIR)
