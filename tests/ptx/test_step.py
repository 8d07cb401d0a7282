"""All kernels of a step in their order, prepare_rows to finish_rows, each fed by the ones before it, against fp64."""

from __future__ import annotations

import cases
import pytest
from backward_executor import Backward
from executor import Forward
from test_backward import agree, planted, upstream
from test_forward import RULES, TYPES

from support.chosen import each, first

pytestmark = pytest.mark.ptx


def chain(p, kind: str, size: float = 1.0, **options) -> Backward:
    operand, w_bytes = TYPES[kind]
    names = ("transposed", "arch", "multiprocessors", "w_padding")
    forward = Forward(p, operand, w_bytes=w_bytes, **{n: options[n] for n in names if n in options})
    forward.run()
    given = upstream(len(p.labels), size)
    return Backward(p, operand, *given, w_bytes=w_bytes, saved=forward.saved, **options)


@each(
    of=[
        ("bf16", "rows"),
        ("bf16-w32", "columns"),
        ("fp16", "columns"),
        ("fp16-w32", "rows"),
        ("tf32", "rows"),
        ("fp32", "columns"),
    ],
    rule=RULES,
)
def test_step(of, rule):
    kind, layout = of
    agree(chain(planted(kind, 30, 48, [130, 0, 25, 61], rule), kind, transposed=layout == "columns"))


@first(1, rule=["topk", "below-relative"])
def test_two_row_blocks_in_runs(rule):
    """Aliases, two blocks of rows and of columns, a run per tile, three splits."""
    p = cases.with_aliases(planted("bf16", 150, 136, [130, 33, 70], rule), 40)
    call = chain(p, "bf16", limit=1, multiprocessors=6)
    agree(call)
    assert call.runs == 4


@each(build=cases.TROUBLED, rule=RULES)
def test_troubled_rows(build, rule):
    agree(chain(build("bf16", scale=12.0, **RULES[rule]), "bf16"))


@each(kind=["bf16", "fp32"], size=[1e-8, 1e6])
def test_sizes_of_the_upstream_gradient(kind, size):
    agree(chain(planted(kind, 12, 40, [60, 50], "topk"), kind, size))


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_schedules(kind):
    call = chain(planted(kind, 20, 40, [60, 50], "topk"), kind)
    dx, dw = call.run()
    for seed in (1, 2):
        again = call.run(seed=seed)
        assert (again[0] == dx).all()
        assert (again[1] == dw).all()


def test_all_rows_ignored():
    p = planted("bf16", 5, 32, [20, 30], "topk")
    p.labels[:] = -1
    dx, dw = agree(chain(p, "bf16"))
    assert not dx.any()
    assert not dw.any()
