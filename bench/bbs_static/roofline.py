"""A roofline of the forward sweep, computed from data sheets and launch plans: nothing in it was measured.

A lower bound of the time is the largest of three: DRAM, if w and x cross it once; the tensor cores at the data sheet's
rate; and issue: every block that runs has one warp on each scheduler, at the cycles that the static report found.
"""

from __future__ import annotations

from dataclasses import dataclass

from .gpus import BY_ARCH, Gpu
from .plan import Problem, plan_sweep
from .traffic import sweep_traffic
from .work import Sweep

ARCHES = ("sm_80", "sm_90", "sm_89")
BATCHES = (128, 1024, 4096)
CLASSES = (100_000, 1_000_000, 10_000_000)
SCHEDULERS = 4  # of a multiprocessor


@dataclass(frozen=True)
class Point:
    gpu: Gpu
    w_bytes: int
    problem: Problem
    resident: bool
    blocks: int
    blocks_at_once: int
    flops: int
    minimum_bytes: int
    requested_bytes: int
    memory_ms: float
    tensor_ms: float
    issue_ms: float

    @property
    def intensity(self) -> float:
        return self.flops / self.minimum_bytes

    @property
    def milliseconds(self) -> float:
        return max(self.memory_ms, self.tensor_ms, self.issue_ms)

    @property
    def bound(self) -> str:
        return {self.memory_ms: "DRAM", self.tensor_ms: "tensor cores"}.get(self.milliseconds, "issue")


def roofline(flops_per_cycle: dict[tuple[str, str], float]) -> list[Point]:
    """`flops_per_cycle`: of a warp's main loop, by kernel name and arch; without an entry that bound is 0."""
    return [
        _point(BY_ARCH[arch], w_bytes, Problem(rows, classes), flops_per_cycle)
        for arch in ARCHES
        for w_bytes in (2, 4)
        for rows in BATCHES
        for classes in CLASSES
    ]


def _point(gpu: Gpu, w_bytes: int, problem: Problem, flops_per_cycle: dict[tuple[str, str], float]) -> Point:
    asked = Sweep("bf16", w_bytes, transposed=False, resident=True)
    launch = plan_sweep(asked, problem, gpu.arch, gpu.multiprocessors, streaming=False)
    sweep = asked if launch.resident else Sweep("bf16", w_bytes, transposed=False, resident=False)
    moved = sweep_traffic(sweep, launch)
    at_once = gpu.multiprocessors * _blocks_per_multiprocessor(launch.shared_bytes, gpu.arch)
    per_cycle = flops_per_cycle.get((sweep.name, gpu.arch), 0.0)
    issue_rate = per_cycle * SCHEDULERS * min(launch.blocks, at_once) * gpu.boost_ghz * 1e9
    return Point(
        gpu, w_bytes, problem, launch.resident, launch.blocks, at_once,
        moved.flops, moved.minimum, moved.requested,
        memory_ms=moved.minimum / gpu.dram_gb_s / 1e6,
        tensor_ms=moved.flops / gpu.bf16_tflops / 1e9,
        issue_ms=moved.flops / issue_rate * 1e3 if issue_rate else 0.0,
    )  # fmt: skip


def _blocks_per_multiprocessor(shared_bytes: int, arch: str) -> int:
    """As plan.h counts them: registers allow two, and the system keeps 1 KB of shared memory per block."""
    total = {"sm_80": 164, "sm_90": 228, "sm_100": 228}.get(arch, 100) * 1024
    return max(1, min(2, total // (shared_bytes + 1024)))
