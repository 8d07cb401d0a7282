"""Runs of the backward where the workspace would hold more than a grid, or a 32-bit step, can: plans only."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import _core
from support.cuda_call import MEMORY, OWN, call_of, meta

MACHINE = _core.machine_of(90, 132)
GRID_Y = 65535


def plan(rows: int, dim: int, classes: int, element: int, needs: tuple[bool, bool], limit: int) -> dict:
    dtype = torch.bfloat16 if element == 2 else torch.float32
    call = call_of(meta((rows, dim), dtype=dtype), meta((classes, dim), dtype=dtype), **OWN)
    gradients = {name: (0, dim, 1) if need else None for name, need in zip(("dx", "dw"), needs, strict=True)}
    return _core.plan_backward(call, [0, classes], MACHINE, {**MEMORY, **gradients}, limit)


def grids(made: dict, kernel: str) -> list[tuple[int, int, int]]:
    return [grid for name, _, grid, *_ in made["launches"] if name == kernel]


@pytest.mark.parametrize(
    ("dim", "classes", "needs", "limit"),
    [
        (512, 10_000_000, (False, True), 4 << 30),
        (512, 10_000_000, (True, True), 16 << 30),
        (128, 9_000_000, (True, True), 8 << 30),
    ],
)
def test_tiles_of_a_run_fit_the_grid(dim: int, classes: int, needs: tuple[bool, bool], limit: int) -> None:
    """`coefficients` has the tiles of a run in y: 78125 of them were an invalid launch."""
    made = plan(128, dim, classes, 2, needs, limit)
    tiles = [y for _, y, _ in grids(made, "coefficients")]
    assert len(tiles) == made["runs"] > 1
    assert sum(tiles) == -(-classes // 128)
    assert max(tiles) <= GRID_Y
    assert tiles[0] > 0.99 * min(GRID_Y, -(-classes // 128) / 2)
    assert all(max(y, z) <= GRID_Y for _, _, (_, y, z), *_ in made["launches"])


@pytest.mark.parametrize(("element", "dim"), [(4, 32), (2, 32)])
def test_columns_of_a_run_do_not_wrap_the_step_of_a_loader(element: int, dim: int) -> None:
    """ALoader steps over 32 rows of p_rows in 32 bits: at 2^27 bytes a row it read the same row 32 times."""
    made = plan(128, dim, 40_000_000, element, (True, False), 32 << 30)
    first = grids(made, "coefficients")[0]
    assert first[1] * 128 * element * 32 < 2**32
    assert len(grids(made, "gradient_rows")) == made["runs"]


def test_a_run_that_fits_is_as_it_was() -> None:
    made = plan(1024, 512, 1_000_000, 2, (True, True), 64 << 20)
    assert grids(made, "coefficients")[0] == (8, 99, 1)
    assert made["runs"] == 79
