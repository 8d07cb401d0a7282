"""Classes of several centres in the PTX machine: all kernels of a step against fp64, and how tiles are cut."""

from __future__ import annotations

import cases
import numpy as np
import pytest
from test_backward import agree as gradients_agree
from test_backward import planted as planted_for
from test_forward import RULES, TYPES, check
from test_step import chain

from support.chosen import each, first

pytestmark = pytest.mark.ptx


def step(p, kind: str, **options) -> None:
    check(p, kind, **options)
    gradients_agree(chain(p, kind, **options))


@each(
    of=[
        ("bf16", "rows", 3),
        ("bf16-w32", "columns", 2),
        ("fp16", "columns", 5),
        ("tf32", "rows", 4),
        ("fp32", "columns", 3),
    ],
    rule=RULES,
)
def test_step(of: tuple[str, str, int], rule: str) -> None:
    """Partial tiles, an empty basket, classes that begin inside a 16-byte chunk of a transposed w."""
    kind, layout, subcenters = of
    p = planted_for(kind, 20, 48, [47, 0, 13, 31], rule, subcenters=subcenters)
    step(cases.with_aliases(p, 20), kind, transposed=layout == "columns")


@each(layout=["rows", "columns"], subcenters=[7, 13, 16])
def test_many_centres(layout: str, subcenters: int) -> None:
    """Tiles of whole classes leave columns empty, and the element-wise loads of an odd shape."""
    p = planted_for("bf16", 9, 31, [19, 5], "topk", subcenters=subcenters)
    step(p, "bf16", transposed=layout == "columns")


@first(1, kind=["bf16", "fp32"])
def test_two_row_blocks_in_runs(kind: str) -> None:
    p = cases.with_aliases(planted_for(kind, 140, 16, [60, 40], "topk", subcenters=3), 30)
    call = chain(p, kind, limit=1, multiprocessors=6)
    gradients_agree(call)
    assert call.runs == 3


@pytest.mark.parametrize("kind", TYPES)
def test_ties(kind: str) -> None:
    """Exact cosines, many of them equal: the first centre of a class and the first class win, in every type."""
    p = cases.dyadic(TYPES[kind][0], 20, 24, [30, 41], subcenters=3, **RULES["topk"])
    check(p, kind, exact=True)


@each(build=cases.TROUBLED, rule=["topk", "own"])
def test_troubled_rows(build, rule: str) -> None:
    p = build("bf16", scale=12.0, subcenters=2, **RULES[rule])
    step(p, "bf16")


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_schedules(kind: str) -> None:
    """The rows that pass through shared memory are there before they are read, however the warps interleave."""
    call = chain(planted_for(kind, 12, 24, [40, 20], "topk", subcenters=3), kind)
    dx, dw = call.run()
    for seed in (1, 2):
        again = call.run(seed=seed)
        np.testing.assert_array_equal(again[0], dx)
        np.testing.assert_array_equal(again[1], dw)
