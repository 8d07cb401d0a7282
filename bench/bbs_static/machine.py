"""The operand accesses of a main loop as they are executed: bank conflicts and coalescing, counted in the PTX machine.

cuxray follows the shared addresses of the main loops, but the rows of an operand lie a parameter apart, which no static
analysis can know. Here the PTX of the same instantiation runs on full tiles and every access has its real address.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .backward_units import BACKWARD
from .compiler import CACHE, ROOT, source_hash
from .forward_units import FORWARD
from .plan import SUBCENTERS
from .work import Sweep, Work

# Beside the tiles of a sweep: read and written once per tile, not in the main loop.
ONCE_A_TILE = ("sweep_state.cuh", "sweep_epilogue.cuh", "topk_list.cuh", "nearest_centres.cuh")
SWEEP_LOADS = "tile_load.cuh"
RANGE = "gemm_range.cuh"  # the whole loop of a product, loads included


@dataclass(frozen=True)
class Executed:
    """Mean over the executed accesses; `ideal`: what their bytes need at least."""

    sites: int
    wavefronts: float
    ideal_wavefronts: float
    load_sites: int
    sectors: float
    ideal_sectors: float


def execute_once(work: Work) -> Executed:
    """From the cache where these sources have run before."""
    sources = "".join(unit.source for unit in (FORWARD if isinstance(work, Sweep) else BACKWARD))
    key = hashlib.sha256(f"{work}{source_hash(sources)}".encode()).hexdigest()[:16]
    kept = CACHE / f"executed.{key}.json"
    if kept.exists():
        return Executed(**json.loads(kept.read_text(encoding="utf-8")))
    executed = execute(work)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(executed)), encoding="utf-8")
    return executed


def execute(work: Work) -> Executed:
    sys.path.append(str(ROOT / "tests" / "ptx"))  # the tests' problems and executors
    import cases
    import numpy as np
    from backward_executor import Backward
    from executor import Forward

    layout: dict[str, Any] = {"w_bytes": work.w_bytes, "transposed": work.transposed, "multiprocessors": 1}
    checks = {"sectors": True, "race": False, "uninit": False}
    if isinstance(work, Sweep):
        sizes = [256 // SUBCENTERS] if work.several else [256]
        problem = cases.planted(
            work.operand, 128, 64, sizes, subcenters=SUBCENTERS if work.several else 1, rule="own"
        )
        forward = Forward(problem, work.operand, streaming=not work.resident, **layout)
        forward.run(checks=checks)
        return _count(
            forward.stats["cos_lse_sweep"],
            lambda source: not any(name in source for name in ONCE_A_TILE),
            lambda source: SWEEP_LOADS in source,
        )
    problem = cases.planted(work.operand, 128, 128, [256], rule="own")
    backward = Backward(problem, work.operand, np.ones(128), np.ones(128), **layout)
    backward.run(checks=checks)
    return _count(backward.stats[work.kernel], lambda source: RANGE in source, lambda source: RANGE in source)


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
