"""The forward: every instantiation that csrc/cuda/launch_types.inl can launch and, for reports only, sweeps without the
norms: what they cost beside CUTLASS is what the loop itself costs."""

from __future__ import annotations

from .units import Instance, Kernel, Unit, sweep_types, tile_types, unit_of
from .work import COMBINATIONS, Operands, Sweep

SWEEP_THREADS = 128


def _sweep(sweep: Sweep) -> Instance:
    types, mangled = sweep_types(tile_types(sweep), sweep.several, sweep.resident, sweep.vectors, sweep.norms)
    kernel = Kernel(sweep.name, f"cos_lse_sweep.*{mangled}", SWEEP_THREADS, sweep)
    return Instance(kernel, f"cos_lse_sweep<{types}>")


def _prepare(operands: Operands) -> Instance:
    types, mangled = tile_types(operands)
    return Instance(
        Kernel(f"row preparation {operands.title}", f"prepare_rows.*{mangled}", 128), f"prepare_rows<{types}>"
    )


def _unit(operand: str, w_bytes: int, transposed: bool) -> Unit:
    sweeps = [Sweep(operand, w_bytes, transposed, resident) for resident in (True, False)]
    if w_bytes == 2:
        sweeps += [Sweep(operand, w_bytes, transposed, resident, norms=False) for resident in (True, False)]
    sweeps += [
        Sweep(operand, w_bytes, transposed, False, vectors, several=several)
        for vectors, several in ((False, False), (True, True), (False, True))
    ]
    return unit_of(
        f"forward_{operand}_w{8 * w_bytes}_{'columns' if transposed else 'rows'}",
        ("cos_lse_sweep", "prepare_rows"),
        [*map(_sweep, sweeps), _prepare(sweeps[0])],
    )


FORWARD = (
    Unit(
        "forward_common",
        '#include "merge_margin.cuh"\n#include "merge_splits.cuh"\n#include "order_rows.cuh"\n',
        (
            Kernel("row order", "order_rows", 128),
            Kernel("merge of the splits", "merge_splits", 128),
            Kernel("merge with losses", "merge_margin", 128),
        ),
    ),
    *(_unit(op, w_bytes, transposed) for op, w_bytes in COMBINATIONS for transposed in (False, True)),
)
