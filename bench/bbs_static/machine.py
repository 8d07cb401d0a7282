"""The operand accesses of a sweep as they are executed: bank conflicts and coalescing, counted in the PTX machine.

cuxray follows the shared addresses of the main loops, but the rows of an operand lie a parameter apart, which no static
analysis can know. Here the PTX of the same instantiation runs on a full tile and every access has its real address.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from . import plan  # noqa: F401  puts the tests' executor on the path
from .compiler import CACHE, source_hash
from .kernels import Sweep

# Beside the tiles: read and written once per tile, not in the main loop.
ONCE_A_TILE = ("sweep_state.cuh", "sweep_epilogue.cuh", "topk_list.cuh")
LOADS = "tile_load.cuh"


@dataclass(frozen=True)
class Executed:
    """Mean over the executed accesses; `ideal`: what their bytes need at least."""

    sites: int
    wavefronts: float
    ideal_wavefronts: float
    load_sites: int
    sectors: float
    ideal_sectors: float


def execute_once(sweep: Sweep) -> Executed:
    """From the cache where these sources have run before."""
    key = hashlib.sha256(f"{sweep}{source_hash()}".encode()).hexdigest()[:16]
    kept = CACHE / f"executed.{key}.json"
    if kept.exists():
        return Executed(**json.loads(kept.read_text(encoding="utf-8")))
    executed = execute(sweep)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(executed)), encoding="utf-8")
    return executed


def execute(sweep: Sweep) -> Executed:
    import cases
    from executor import Forward

    problem = cases.planted(sweep.operand, 128, 64, [256], rule="own")
    call = Forward(
        problem,
        sweep.operand,
        w_bytes=sweep.w_bytes,
        transposed=sweep.transposed,
        streaming=not sweep.resident,
        multiprocessors=1,
    )
    call.run(checks={"sectors": True, "race": False, "uninit": False})
    stats = call.stats["cos_lse_sweep"]
    bank = [
        (float(wavefronts), float(ideal))
        for (_, _, source), (_, wavefronts, ideal) in stats.bank.items()
        if not any(name in (source or "") for name in ONCE_A_TILE)
    ]
    sectors = [
        (n, ideal) for (_, _, source), (_, n, ideal) in stats.sectors.items() if LOADS in (source or "")
    ]
    return Executed(
        len(bank), sum(w for w, _ in bank), sum(i for _, i in bank),
        len(sectors), sum(n for n, _ in sectors), sum(i for _, i in sectors),
    )  # fmt: skip
