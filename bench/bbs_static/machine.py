"""The operand accesses of a main loop as they are executed: bank conflicts and coalescing, counted in the PTX machine.

cuxray follows the shared addresses of the main loops, but the rows of an operand lie a parameter apart, which no static
analysis can know. Here the same kernel runs on full tiles, launched by the op library on the tests' emulated GPU, and
every access has its real address.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .images import CACHE, ROOT, sources_digest
from .kernels import Kernel
from .plan import OWN, SUBCENTERS
from .work import Dense, Operands, Sweep

# Beside the tiles of a sweep: read and written once per tile, not in the main loop.
ONCE_A_TILE = ("sweep_state.cuh", "sweep_epilogue.cuh", "topk_list.cuh", "nearest_centres.cuh")
SWEEP_LOADS = "tile_load.cuh"
RANGE = "gemm_range.cuh"  # the whole loop of a product, loads included
ROWS, CENTRES = 128, 256  # one tile of rows, two of centres
ARCH = 80
CHECKS = {"sectors": True, "race": False, "uninit": False}  # counts only: the tests check the rest


@dataclass(frozen=True)
class Executed:
    """Mean over the executed accesses; `ideal`: what their bytes need at least."""

    sites: int
    wavefronts: float
    ideal_wavefronts: float
    load_sites: int
    sectors: float
    ideal_sectors: float


def execute_once(kernel: Kernel) -> Executed:
    """From the cache where these sources have run before."""
    key = hashlib.sha256(f"{kernel.symbol}{sources_digest()}".encode()).hexdigest()[:16]
    kept = CACHE / f"executed.{key}.json"
    if kept.exists():
        return Executed(**json.loads(kept.read_text(encoding="utf-8")))
    executed = execute(kernel)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(executed)), encoding="utf-8")
    return executed


def execute(kernel: Kernel) -> Executed:
    sys.path.append(str(ROOT / "tests"))
    from support.emulated_gpu import EmulatedGpu, images

    gpu = EmulatedGpu(ARCH)
    ptx = images.ptx_of(kernel.symbol, f"sm_{ARCH}")  # with its source lines, which the package's images lack
    work = kernel.work
    streaming = isinstance(work, Sweep) and not work.resident
    with gpu.run(checks=CHECKS, streaming=streaming, multiprocessors=1, mutated={kernel.symbol: ptx}) as ops:
        if isinstance(work, Sweep):
            ops.cos_lse(**_problem(work, 64, work.several), k=0, skip=0)
        elif isinstance(work, Dense):
            ops.cos_lse_backward(**_problem(work, 128, False), **_saved(), need_dx=True, need_dw=True)
    (stats,) = (launch.stats for launch in gpu.launches if launch.symbol == kernel.symbol)
    if isinstance(work, Sweep):
        return _count(
            stats,
            lambda source: not any(name in source for name in ONCE_A_TILE),
            lambda source: SWEEP_LOADS in source,
        )
    return _count(stats, lambda source: RANGE in source, lambda source: RANGE in source)


def _problem(of: Operands, dim: int, several: bool) -> dict[str, Any]:
    """Arguments of both ops: one basket under the rule "own", for which the values of x and w do not matter."""
    import torch

    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    x_type = types.get(of.operand, torch.float32)
    w_type = torch.float32 if of.w_bytes == 4 else x_type
    subcenters = SUBCENTERS if several else 1
    classes = CENTRES // subcenters
    random = torch.Generator().manual_seed(0)
    w = torch.randn(CENTRES, dim, generator=random).to(w_type)
    return {
        "x": torch.randn(ROWS, dim, generator=random).to(x_type),
        "w": w.t().contiguous().t() if of.transposed else w,
        "labels": torch.arange(ROWS) % classes,
        "offsets": torch.tensor([0, classes]),
        "scale": 1.0,
        "rule": OWN,
        "ignore_index": -1,
        "allow_tf32": of.operand == "tf32",
        "subcenters": subcenters,
        **dict.fromkeys(("guard", "aliases", "class_index")),
        **{"guard_kind": 0, "guard_value": 0.0},
    }


def _saved() -> dict[str, Any]:
    """What a forward returned, and the gradients that come back to it."""
    import torch

    rows = torch.ones(ROWS)
    return {
        "grad_lse": rows,
        "grad_cos_t": rows,
        "lse": rows,
        "cos_t": rows,
        "mined_idx": torch.empty(ROWS, 1, 0, dtype=torch.int64),
        "mined_cos": torch.empty(ROWS, 1, 0),
        "stash": torch.empty(0),
    }


def _count(stats: Any, in_loop: Callable[[str], bool], loads: Callable[[str], bool]) -> Executed:
    """`stats`: of one launch. The accesses whose chain of source lines is in the loop, and is one of its loads."""
    bank = [
        (float(wavefronts), float(ideal))
        for (_, _, source), (_, wavefronts, ideal) in stats.bank.items()
        if in_loop(source or "")
    ]
    sectors = [(n, ideal) for (_, _, source), (_, n, ideal) in stats.sectors.items() if loads(source or "")]
    return Executed(
        len(bank), sum(w for w, _ in bank), sum(i for _, i in bank),
        len(sectors), sum(n for n, _ in sectors), sum(i for _, i in sectors),
    )  # fmt: skip
