"""One row per kernel and compute capability: everything that the report knows, flat, ready for CSV and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .binary import Binary, inspect
from .gpus import BY_ARCH
from .kernels import Kernel
from .machine import Executed
from .plan import DenseLaunch, Launch, Problem, dense_launch_of, launch_of
from .tools import Tools
from .traffic import Traffic, product_traffic, sweep_traffic
from .work import Dense, Sweep

REFERENCE = Problem(rows=1024, classes=1_000_000)  # what launch plans, occupancy and bytes refer to


@dataclass
class Row:
    """`None` where a figure has no meaning: no main loop, or no launch plan."""

    kernel: str
    arch: str
    registers: int
    spilled_bytes: int
    shared_bytes: int
    width: int | None  # D of the launch: below 512 where a resident x does not fit
    blocks_per_multiprocessor: int
    occupancy_percent: float
    occupancy_limit: str
    cycles_per_iteration: int | None = None
    cycles_per_k_step: float | None = None
    multiplies: int | None = None
    cycles_per_multiply: float | None = None
    multiply_share: float | None = None
    flops_per_cycle: float | None = None
    ratio_to_cutlass: float | None = None
    shared_accesses: int | None = None
    bank_conflicts: int | None = None
    shared_untraced: int | None = None
    uncoalesced: int | None = None
    executed_wavefronts: float | None = None
    ideal_wavefronts: float | None = None
    executed_sectors: float | None = None
    ideal_sectors: float | None = None
    flops: int | None = None
    requested_bytes: int | None = None
    minimum_bytes: int | None = None
    mix: dict[str, int] = field(default_factory=dict)
    untraced: dict[str, int] = field(default_factory=dict)


def measure(
    cubin: Path, kernels: tuple[Kernel, ...], arch: str, tools: Tools, traced: tuple[str, ...]
) -> list[Row]:
    """Reads the kernels of an image. The PTX machine's counts are added later: they are of no one arch."""
    return [_row(binary, arch) for binary in inspect(cubin, kernels, tools, traced)]


def _row(binary: Binary, arch: str) -> Row:
    from cuxray import archspec, occupancy

    kernel, spec = binary.kernel, archspec.lookup(arch)
    launch, moved = _launch(kernel, arch)
    dynamic = launch.shared_bytes if launch else kernel.shared
    fits = occupancy.compute(
        spec, binary.registers, kernel.threads, smem_static=binary.static_shared, smem_dynamic=dynamic
    )
    row = Row(
        kernel=kernel.name,
        arch=arch,
        registers=binary.registers,
        spilled_bytes=binary.spilled_bytes,
        shared_bytes=dynamic + binary.static_shared,
        width=launch.problem.dim if launch else None,
        blocks_per_multiprocessor=fits.blocks_per_sm,
        occupancy_percent=fits.occupancy_pct,
        occupancy_limit=str(fits.limiter).replace("_", " "),
    )
    if cycles := binary.cycles:
        row.cycles_per_iteration = cycles.per_iteration
        row.cycles_per_k_step = cycles.per_k_step
        row.multiplies = cycles.multiplies
        row.cycles_per_multiply = cycles.per_multiply
        row.multiply_share = cycles.multiply_share
        row.flops_per_cycle = cycles.flops_per_cycle
        row.mix = cycles.mix
    if accesses := binary.accesses:
        row.shared_accesses = accesses.shared
        row.bank_conflicts = accesses.conflicts
        row.shared_untraced = accesses.shared_untraced
        row.uncoalesced = accesses.uncoalesced
        row.untraced = accesses.untraced
    if moved:
        row.flops, row.requested_bytes, row.minimum_bytes = moved.flops, moved.requested, moved.minimum
    return row


def _launch(kernel: Kernel, arch: str) -> tuple[Launch | DenseLaunch | None, Traffic | None]:
    """The reference problem's launch, and what it moves where the kernel's main loop moves it."""
    multiprocessors = BY_ARCH[arch].multiprocessors
    if isinstance(kernel.work, Sweep):
        sweep = launch_of(kernel.work, REFERENCE, arch, multiprocessors)
        return sweep, sweep_traffic(kernel.work, sweep)
    if isinstance(kernel.work, Dense):
        dense = dense_launch_of(kernel.work, REFERENCE, arch, multiprocessors)
        return dense, product_traffic(kernel.work, dense) if kernel.has_main_loop else None
    return None, None


def add_executed(row: Row, executed: Executed) -> None:
    row.executed_wavefronts, row.ideal_wavefronts = executed.wavefronts, executed.ideal_wavefronts
    row.executed_sectors, row.ideal_sectors = executed.sectors, executed.ideal_sectors


def compare(rows: list[Row], baseline: str, kernels: dict[str, Kernel]) -> None:
    """Sets the ratios to the baseline of the same arch, for loops that use the same instruction as it does."""
    reference: dict[str, Any] = {r.arch: r.cycles_per_multiply for r in rows if r.kernel == baseline}
    for row in rows:
        work = kernels[row.kernel].work
        if work and row.cycles_per_multiply and work.element == 2 and reference.get(row.arch):
            row.ratio_to_cutlass = row.cycles_per_multiply / reference[row.arch]
