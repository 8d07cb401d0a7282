"""The dense backward in the PTX machine against the dense fp64 oracle: type x rule x odd shape x stride order x run."""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from backward_executor import Backward
from executor import Forward
from gradient_oracle import gradients
from test_forward import GUARDED, RULES, TYPES, guarded

from support.chosen import each, first

pytestmark = pytest.mark.ptx

# L2 of the error against fp64 on the rounded inputs, relative to the gradient and to the terms it is the sum of: in a
# single row they may cancel. p and the normalised operands are rounded once more (2^-9 in bf16, 2^-12 in fp16 and
# tf32), dw at the end too; in fp32 what is left is the rounding of the log-sum-exp and of the exponential.
ERROR = {"bf16": 4e-3, "fp16": 5e-4, "tf32": 5e-4, "fp32": 2e-6}
SCALE = 12.0  # several classes share the softmax


def upstream(rows: int, size: float = 1.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return size * rng.standard_normal(rows), size * rng.standard_normal(rows)


def close(got: np.ndarray, want: np.ndarray, terms: np.ndarray, operand: str, floor: float = 0.0) -> None:
    """`floor`: of the absolute error of an entry, for what is lost to the smallest numbers of fp16."""
    size = np.hypot(np.linalg.norm(want), np.linalg.norm(terms))
    lost = floor * np.sqrt(want.size)
    error = np.linalg.norm(got - want)
    assert error <= ERROR[operand] * size + lost, error / max(size, 1e-300)
    empty = ~want.any(1) & ~terms.any(1)
    assert not got[empty].any(), "the gradient is exactly 0 here"


def agree(
    call: Backward, seed: int = 0, floor: float = 0.0, dx_floor: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    want = gradients(call.p, call.u.astype(np.float64), call.t.astype(np.float64))
    dx, dw = call.run(seed=seed)
    if dx is not None:
        np.testing.assert_array_equal(np.isnan(dx).any(1), np.isnan(want.dx).any(1))
        rows = ~np.isnan(want.dx).any(1)
        close(dx[rows], want.dx[rows], want.dx_terms[rows], call.operand, dx_floor)
    if dw is not None:
        classes = ~np.isnan(dw).any(1)
        assert (classes | want.touched).all(), "NaN in a class that no NaN row touches"
        clean = ~want.touched
        close(dw[clean], want.dw[clean], want.dw_terms[clean], call.operand, floor)
    return dx, dw


def check(
    p: oracle.Problem, kind: str, seed: int = 0, size: float = 1.0, floor: float = 0.0, **options
) -> Backward:
    operand, w_bytes = TYPES[kind]
    call = Backward(p, operand, *upstream(len(p.labels), size), w_bytes=w_bytes, **options)
    agree(call, seed, floor)
    return call


def planted(kind: str, rows: int, dim: int, sizes: list[int], rule: str, **options) -> oracle.Problem:
    rules = {**RULES, **GUARDED}
    return guarded(cases.planted(TYPES[kind][0], rows, dim, sizes, scale=SCALE, **rules[rule], **options))


@each(of=[(kind, layout) for kind in TYPES for layout in ("rows", "columns")], rule=RULES)
def test_types(of, rule):
    """Two row blocks in bf16, two splits, partial tiles, an empty basket; D of one and a half k-tiles."""
    kind, layout = of
    rows = 140 if kind == "bf16" else 40
    check(planted(kind, rows, 48, [130, 0, 25, 61], rule), kind, transposed=layout == "columns")


@first(1, kind=TYPES)
def test_bias(kind):
    """How much too long the gradients are: rounding averages out over 130 rows, an error with a sign does not."""
    p = planted(kind, 130, 32, [100, 60], "all")
    call = Backward(p, TYPES[kind][0], *upstream(130), w_bytes=TYPES[kind][1])
    want = gradients(p, call.u.astype(np.float64), call.t.astype(np.float64))
    for got, exact in zip(call.run(), (want.dx, want.dw), strict=True):
        slope = ((got - exact) * exact).sum() / (exact * exact).sum()
        assert abs(slope) <= ERROR[TYPES[kind][0]] / 4, slope


@pytest.mark.parametrize("rule", ["all", "topk"])
def test_fp32_at_a_usual_scale(rule):
    """With the forward's log-sum-exp, which is made of the same cosines: the rounding of 64 c cancels in a softmax."""
    p = planted("fp32", 20, 32, [100, 60], rule)
    p.scale = 64.0
    call = Backward(p, "fp32", *upstream(20), forward=Forward(p, "fp32").run())
    want = gradients(p, call.u.astype(np.float64), call.t.astype(np.float64))
    for got, exact in zip(call.run(), (want.dx, want.dw), strict=True):
        assert np.linalg.norm(got - exact) <= 2e-6 * np.linalg.norm(exact)


@each(layout=["rows", "columns"], dim=[7, 40, 97, 160], rows=[1, 31, 130])
def test_odd_shapes(layout, dim, rows):
    """Element-wise loads, two blocks of columns, one row, a tile of one class."""
    check(planted("bf16", rows, dim, [129, 33], "all"), "bf16", transposed=layout == "columns")


@each(kind=["bf16-w32", "fp16", "tf32", "fp32"], layout=["rows", "columns"], dim=[7, 160])
def test_odd_dimensions(kind, layout, dim):
    check(planted(kind, 9, dim, [40, 31], "below"), kind, transposed=layout == "columns")


@each(kind=["bf16", "bf16-w32"], layout=["rows", "columns"], w_padding=[8, 3])
def test_strides(kind, layout, w_padding):
    """w has room between its lines, where dw has none."""
    check(planted(kind, 9, 64, [40, 32], "all"), kind, transposed=layout == "columns", w_padding=w_padding)


@each(kind=["bf16", "fp32"], rule=["below-relative", "below-rows", "topk-absolute", "topk-k0"])
def test_guards(kind, rule):
    check(planted(kind, 30, 40, [60, 35, 50], rule), kind)


@each(kind=["bf16", "fp32"], rule=RULES)
def test_aliases(kind, rule):
    p = planted(kind, 40, 40, [160, 35, 50], rule)
    check(cases.with_aliases(p, 30), kind)


def spread(p: oracle.Problem, counts: list[int]) -> oracle.Problem:
    """So many rows in each basket, near their classes again."""
    rng = np.random.default_rng(3)
    home = np.repeat(np.arange(len(counts)), counts)
    p.labels = np.array([rng.integers(p.offsets[b], p.offsets[b + 1]) for b in home])
    p.x = p.w[p.labels * p.subcenters] + p.x * 0.5
    order = rng.permutation(len(p.labels))
    p.x, p.labels = p.x[order], p.labels[order]
    return p


@each(rule=["own", "all", "topk"], limit=[1, 64 << 20])
def test_baskets_and_row_blocks(rule, limit):
    """Three baskets over two row blocks; between them one without rows, whose tiles a block must step over."""
    p = planted("bf16", 200, 32, [150, 140, 20, 260], rule)
    p = spread(p, [70, 0, 90, 40])
    p.x = cases.round_to("bf16", p.x)
    call = check(p, "bf16", limit=limit, multiprocessors=3)
    assert call.runs == (8 if limit == 1 else 1)
    assert call.row_blocks == 2


@each(kind=["bf16", "fp32"], rule=["own", "all"])
def test_runs_and_splits_change_little(kind, rule):
    """Any cut into runs gives the same dw bit by bit, and the same dx but for the order of a few sums."""
    p = planted(kind, 20, 40, [140, 33, 300], rule)
    results = []
    for limit, multiprocessors in [(1, 1), (400_000, 8), (64 << 20, 1), (64 << 20, 40)]:
        call = Backward(p, kind, *upstream(20), limit=limit, multiprocessors=multiprocessors)
        gradients_of_cut = call.run()
        results.append((call.runs, call.splits, *gradients_of_cut))
    assert len({r[:2] for r in results}) == 4
    for _, _, dx, dw in results[1:]:
        assert (dw == results[0][3]).all()
        np.testing.assert_allclose(dx, results[0][2], rtol=0, atol=1e-5 * np.abs(dx).max())


@each(kind=["bf16", "bf16-w32", "tf32", "fp32"], rule=["topk", "below"])
def test_schedules(kind, rule):
    """Random interleavings of the warps: the same bits under each."""
    p = planted(kind, 30, 72, [140, 33], rule)
    operand, w_bytes = TYPES[kind]
    call = Backward(p, operand, *upstream(30), w_bytes=w_bytes, limit=1)
    dx, dw = agree(call)
    for seed in (1, 2):
        again = call.run(seed=seed)
        assert (again[0] == dx).all()
        assert (again[1] == dw).all()


@each(kind=["bf16", "fp16-w32", "fp16", "fp32"], size=[1e-8, 1e6, 65536.0])
def test_sizes_of_the_upstream_gradient(kind, size):
    """A row factor never enters an operand unscaled; only a gradient stored in fp16 loses what fp16 cannot hold. Long
    rows and centres have small gradients, which keeps those below 65504."""
    operand, w_bytes = TYPES[kind]
    p = planted(kind, 20, 40, [60, 50], "all")
    if operand == "fp16":
        p.x *= 2.0**10 if size > 1 else 2.0**-8
        p.w *= 2.0**6 if size > 1 and w_bytes == 2 else 1.0
    smallest = 2.0**-25  # half of fp16's
    call = Backward(p, operand, *upstream(20, size), w_bytes=w_bytes)
    agree(
        call,
        floor=smallest if operand == "fp16" and w_bytes == 2 else 0.0,
        dx_floor=smallest if operand == "fp16" else 0.0,
    )


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_upstream_of_zeros(kind):
    p = planted(kind, 20, 40, [60, 50], "all")
    dx, dw = Backward(p, kind, np.zeros(20), np.zeros(20)).run()
    assert not dx.any()
    assert not dw.any()


@each(kind=["bf16", "fp32"], needs=[(True, False), (False, True)])
def test_needs_input_grad(kind, needs):
    p = planted(kind, 20, 40, [60, 50], "topk")
    both = Backward(p, kind, *upstream(20))
    want = both.run()
    one = Backward(p, kind, *upstream(20), need_dx=needs[0], need_dw=needs[1])
    got = one.run()
    assert len(one.launches) < len(both.launches)
    for g, w, need in zip(got, want, needs, strict=True):
        assert (g == w).all() if need else g is None


def test_many_small_baskets():
    """More baskets than classes in a tile: a row block's tiles come in many short runs."""
    sizes = [1, 2, 3, 0] * 10
    for rule in ("own", "topk"):
        check(planted("bf16", 40, 32, sizes, rule), "bf16", multiprocessors=4)


@each(kind=["bf16", "fp16", "tf32", "fp32"], build=cases.TROUBLED, rule=RULES)
def test_troubled_rows(kind, build, rule):
    check(build(TYPES[kind][0], scale=SCALE, **RULES[rule]), kind)


@each(kind=["bf16", "fp16-w32", "fp32"], bad=[49, 50])
def test_nan_does_not_leak_through_a_shared_chunk(kind, bad):
    operand, w_bytes = TYPES[kind]
    p = cases.nan_beside_a_basket(operand, bad, scale=SCALE, rule="own")
    dx, dw = agree(Backward(p, operand, *upstream(20), w_bytes=w_bytes, transposed=True))
    assert np.isnan(dx).any(1).sum() == 10
    assert np.isfinite(dw[50:] if bad == 49 else dw[:50]).all()


@each(kind=["bf16-w32", "fp16-w32", "fp16"], classes=[1e6, 4e7])
def test_fp16_does_not_lose_small_coefficients(kind, classes):
    """A shard of a flat softmax over many classes: every p is 1 / classes, less than half of fp16's smallest number."""
    operand, w_bytes = TYPES[kind]
    p = planted(kind, 6, 32, [40], "own")
    p.scale = 1e-3
    out = oracle.forward(p)
    out.lse[np.isfinite(out.lse)] = np.log(classes)
    u, t = np.full(6, 10 * classes), np.zeros(6)  # so that no gradient is a subnormal of fp16
    dx, dw = Backward(p, operand, u, t, forward=out, w_bytes=w_bytes).run()
    want = gradients(p, u, t, out)
    close(dx, want.dx, want.dx_terms, operand)
    close(dw, want.dw, want.dw_terms, operand)


def test_nan_stays_in_its_basket():
    """Under `own` two baskets share a row block. A NaN row or class is neither in the products of the other basket's
    rows nor in those of its classes, though both are multiplied by the same zeros."""
    p = planted("bf16", 20, 40, [50, 90], "own")
    p.labels = np.where(np.arange(20) < 8, np.arange(20), 60 + np.arange(20))
    p.x[3, 5] = np.nan  # of the first basket
    dx, dw = agree(Backward(p, "bf16", *upstream(20)))
    assert np.flatnonzero(np.isnan(dx).any(1)).tolist() == [3]
    assert np.isnan(dw[:50]).all()
    p.x[3, 5], p.w[60, 5] = 1.0, np.inf  # a class of the second
    dx, dw = agree(Backward(p, "bf16", *upstream(20)))
    assert np.flatnonzero(np.isnan(dx).any(1)).tolist() == list(range(8, 20))
    assert np.isnan(dw[50:]).all()


@each(rule=RULES, size=cases.SMALLEST)
def test_smallest(rule, size):
    rows, sizes = cases.SMALLEST[size]
    check(planted("bf16", rows, 16, sizes, rule), "bf16")


def test_all_rows_ignored():
    p = planted("bf16", 5, 32, [20, 30], "topk")
    p.labels[:] = -1
    dx, dw = agree(Backward(p, "bf16", *upstream(5)))
    assert not dx.any()
    assert not dw.any()


@each(kind=["bf16", "fp32"], arch=cases.ARCHS)
def test_architectures(kind, arch):
    check(planted(kind, 9, 40, [140, 33], "topk"), kind, arch=arch)
