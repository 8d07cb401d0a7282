"""What the launch plan decides, asked of `_core`, as production asks it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bbs_kernels import _core  # type: ignore[attr-defined]  # compiled

from .work import Dense, Operands, Sweep

OPERANDS = {"bf16": 0, "fp16": 1, "tf32": 2, "fp32": 3}  # Operand of csrc/cuda/plan.h
OWN = 1  # Rule of csrc/common/rule.h
SUBCENTERS = (
    2  # of a class, where it has several: code and bytes are the same for any number that divides a tile
)


@dataclass(frozen=True)
class Problem:
    """B rows of width D against C centres in one basket."""

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


@dataclass(frozen=True)
class DenseLaunch:
    """`grid`: of the first run, which no other exceeds."""

    problem: Problem
    grid: tuple[int, int, int]
    runs: int
    splits: int
    row_blocks: int
    shared_bytes: int


def _call(of: Operands, problem: Problem) -> dict[str, Any]:
    strides = (1, problem.classes) if of.transposed else (problem.dim, 1)
    return {
        "x": (0, problem.rows, problem.dim, problem.dim, 1, of.element),
        "w": (0, problem.classes, problem.dim, *strides, of.w_bytes),
        "operand": OPERANDS[of.operand],
        "baskets": 1,
        "rule": OWN,
        "scale": 1.0,
        "guard_value": 0.0,
        "subcenters": SUBCENTERS if getattr(of, "several", False) else 1,
        **dict.fromkeys(("labels", "aliases", "guard_rows", "ignore_index", "guard_kind", "k", "skip"), 0),
    }


def _machine(arch: str, multiprocessors: int) -> tuple[int, int, int]:
    return _core.machine_of(int(arch.removeprefix("sm_")), multiprocessors)


def plan_sweep(sweep: Sweep, problem: Problem, arch: str, multiprocessors: int, streaming: bool) -> Launch:
    machine = _machine(arch, multiprocessors)
    plan = _core.plan_forward(_call(sweep, problem), [0, problem.classes], machine, streaming)
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


def plan_dense(of: Operands, problem: Problem, arch: str, multiprocessors: int) -> dict[str, Any]:
    """A backward that wants both gradients, with the default limit of workspace."""
    call = _call(of, problem)
    dw_strides = call["w"][3:5]
    memory = {
        **dict.fromkeys(
            ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos"), 0
        ),
        "workspace": 0,
        "dx": (0, problem.dim, 1),
        "dw": (0, *dw_strides),
    }
    return _core.plan_backward(call, [0, problem.classes], _machine(arch, multiprocessors), memory)


def dense_launch_of(dense: Dense, problem: Problem, arch: str, multiprocessors: int) -> DenseLaunch:
    plan = plan_dense(dense, problem, arch, multiprocessors)
    grid, shared = next(
        (grid, shared) for name, _, grid, _, shared, _ in plan["launches"] if name == dense.kernel
    )
    return DenseLaunch(problem, grid, plan["runs"], plan["splits"], plan["row_blocks"], shared)
