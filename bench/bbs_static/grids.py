"""How full the grids of the dense backward are, computed from its launch plan: nothing in it was measured.

Blocks of a kernel over all its runs, divided by what the multiprocessors would take if each had as many as the busiest.
"""

from __future__ import annotations

from dataclasses import dataclass

from .gpus import BY_ARCH, Gpu
from .plan import Problem, plan_dense
from .work import Operands

KERNELS = ("coefficients", "gradient_rows", "gradient_classes")
ARCHES = ("sm_80", "sm_90", "sm_89", "sm_100")
PROBLEMS = (Problem(1024, 1_000_000), Problem(4096, 1_000_000))


@dataclass(frozen=True)
class Fill:
    gpu: Gpu
    rows: int
    run_tiles: int
    shares: dict[str, float]  # by kernel


def fill_of(problem: Problem, gpu: Gpu) -> Fill:
    plan = plan_dense(Operands("bf16", 2, False), problem, gpu.arch, gpu.multiprocessors)
    blocks = {
        kernel: [x * y * z for name, _, (x, y, z), *_ in plan["launches"] if name == kernel]
        for kernel in KERNELS
    }
    shares = {
        kernel: sum(sizes) / sum(-(-n // gpu.multiprocessors) * gpu.multiprocessors for n in sizes)
        for kernel, sizes in blocks.items()
    }
    run_tiles = next(grid[1] for name, _, grid, *_ in plan["launches"] if name == "coefficients")
    return Fill(gpu, problem.rows, run_tiles, shares)


def grid_fills() -> list[Fill]:
    return [fill_of(problem, BY_ARCH[arch]) for arch in ARCHES for problem in PROBLEMS]
