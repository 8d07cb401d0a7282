"""What the launch plan decides for a sweep, asked of `_core`, as production asks it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bbs_kernels import _core  # type: ignore[attr-defined]  # compiled

from .kernels import Sweep

OPERANDS = {"bf16": 0, "fp16": 1, "tf32": 2, "fp32": 3}  # Operand of csrc/cuda/plan.h
OWN = 1  # Rule of csrc/common/rule.h


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
    strides = (1, problem.classes) if sweep.transposed else (problem.dim, 1)
    call = {
        "x": (0, problem.rows, problem.dim, problem.dim, 1, 2 if sweep.operand in ("bf16", "fp16") else 4),
        "w": (0, problem.classes, problem.dim, *strides, sweep.w_bytes),
        "operand": OPERANDS[sweep.operand],
        "baskets": 1,
        "rule": OWN,
        "scale": 1.0,
        "guard_value": 0.0,
        **dict.fromkeys(("labels", "aliases", "guard_rows", "ignore_index", "guard_kind", "k", "skip"), 0),
    }
    machine = _core.machine_of(int(arch.removeprefix("sm_")), multiprocessors)
    plan = _core.plan_forward(call, [0, problem.classes], machine, streaming)
    row_blocks, splits, _ = plan["cos_lse_sweep"]["grid"]
    return Launch(
        problem, plan["resident"], row_blocks, splits, plan["tiles"], plan["cos_lse_sweep"]["shared"]
    )


def launch_of(sweep: Sweep, problem: Problem, arch: str, multiprocessors: int) -> Launch:
    """The launch of exactly this instantiation: a resident x that does not fit is asked for with half the width."""
    launch = plan_sweep(sweep, problem, arch, multiprocessors, not sweep.resident)
    if launch.resident == sweep.resident:
        return launch
    return launch_of(sweep, replace(problem, dim=problem.dim // 2), arch, multiprocessors)
