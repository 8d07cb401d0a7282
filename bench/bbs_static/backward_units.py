"""The backward: every instantiation that csrc/cuda/backward_types.inl can launch, and the kernels of no type."""

from __future__ import annotations

from itertools import product

from .units import Instance, Kernel, Unit, sweep_types, tile_types, unit_of
from .work import COMBINATIONS, TYPES, Dense, Operands

DENSE_THREADS, ROW_THREADS, SORT_THREADS = 128, 128, 256
SORT = ("count_digits", "scan_digits", "scatter_digits", "gather_pairs")
FEW_VALUES, MANY_VALUES, MANY_VALUES_BY_COLUMNS = 16, 64, 32  # lane_values() of backward_rows_plan.h


def _dense(kernel: str, of: Operands, vectors: bool = True, several: bool = False) -> Instance:
    dense = Dense(of.operand, of.w_bytes, of.transposed, kernel, vectors, several)
    types, mangled = tile_types(of)
    template = f"{kernel}<{types}>"
    if kernel == "gradient_rows":
        template, mangled = f"{kernel}<GemmTypes<{TYPES[of.operand]}>>", f"{TYPES[of.operand]}E"
    elif kernel == "coefficients":
        sweep, mangled = sweep_types((types, mangled), several, False, vectors)
        template = f"{kernel}<{sweep}>"
    return Instance(Kernel(dense.name, f"{kernel}.*{mangled}", DENSE_THREADS, dense), template, "DenseParams")


def _pairs(of: Operands, values: int) -> Instance:
    types, mangled = tile_types(of)
    name = f"backward_pairs {of.title}, {values} values a lane"
    return Instance(
        Kernel(name, f"backward_pairs.*{mangled}EELi{values}E", ROW_THREADS),
        f"backward_pairs<{types}, {values}>",
        "BackwardRowParams",
    )


def _finish(of: Operands) -> Instance:
    op = TYPES[of.operand]
    kernel = Kernel(f"finish_rows {of.operand}", f"finish_rows.*{op}E", ROW_THREADS)
    return Instance(kernel, f"finish_rows<{op}>", "BackwardRowParams")


def _unit(of: Operands) -> Unit:
    many = MANY_VALUES_BY_COLUMNS if of.transposed else MANY_VALUES
    instances = [
        _dense("gradient_classes", of),
        *(_dense("coefficients", of, *which) for which in product((True, False), (False, True))),
        _dense("normalize_classes", of),
        *(_pairs(of, values) for values in (FEW_VALUES, many)),
    ]
    if not of.transposed and not of.converts:  # once per operand type
        instances = [_dense("gradient_rows", of), *instances, _finish(of)]
    return unit_of(
        f"backward_{of.operand}_w{8 * of.w_bytes}_{'columns' if of.transposed else 'rows'}",
        (
            "gradient_rows",
            "gradient_classes",
            "coefficients",
            "normalize_classes",
            "backward_pairs",
            "finish_rows",
        ),
        instances,
    )


BACKWARD = (
    Unit(
        "backward_common",
        '#include "dense_tiles.cuh"\n#include "row_gradient.cuh"\n#include "sort_pairs.cuh"\n',
        (
            Kernel("row_scale", "row_scale", 512),
            *(Kernel(name, name, SORT_THREADS) for name in SORT),
            Kernel("find_baskets", "find_baskets", 128),
        ),
    ),
    *(_unit(Operands(op, w_bytes, layout)) for op, w_bytes in COMBINATIONS for layout in (False, True)),
)
