"""What the launch plan decides for a sweep, asked of csrc/cuda/plan.h itself through the tests' flat interface."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from .compiler import ROOT
from .kernels import Sweep

sys.path.insert(0, str(ROOT / "tests" / "ptx"))


@dataclass(frozen=True)
class Problem:
    """B rows of width D against C classes in one basket."""

    rows: int
    classes: int
    dim: int = 512


@dataclass(frozen=True)
class Launch:
    problem: Problem
    resident: bool
    row_blocks: int
    splits: int
    tiles: int
    shared_bytes: int

    @property
    def blocks(self) -> int:
        return self.row_blocks * self.splits


def plan_sweep(sweep: Sweep, problem: Problem, arch: str, multiprocessors: int, streaming: bool) -> Launch:
    from executor import OPERANDS, plan_forward
    from oracle import RULES

    shape = [
        OPERANDS[sweep.operand], sweep.w_bytes, sweep.transposed, sweep.vectors, problem.rows, problem.dim,
        problem.classes, 1, RULES["own"], 0, 0, False, streaming,
    ]  # fmt: skip
    offsets = np.array([0, problem.classes], np.int64)
    plan, _ = plan_forward(shape, offsets, [int(arch.removeprefix("sm_")), multiprocessors])
    names = ("row_blocks", "splits", "tiles", "shared_bytes")
    return Launch(problem, bool(plan["resident"]), **{name: plan[name] for name in names})


def launch_of(sweep: Sweep, problem: Problem, arch: str, multiprocessors: int) -> Launch:
    """The launch of exactly this instantiation: a resident x that does not fit is asked for with half the width."""
    launch = plan_sweep(sweep, problem, arch, multiprocessors, not sweep.resident)
    if launch.resident == sweep.resident:
        return launch
    return launch_of(sweep, replace(problem, dim=problem.dim // 2), arch, multiprocessors)
