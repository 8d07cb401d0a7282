"""The backward's per-row kernels against fp64 NumPy: row factors, pairs, the sparse part, and dx from given dense
partials. What the dense kernels do with the factors is tested in test_backward.py."""

from __future__ import annotations

import cases
import numpy as np
import pytest
from backward_rows import NO_PAIR, RowInput, run_rows, sort_pairs
from executor import round_to
from gradient_oracle import coefficients, inverse_norms, unit
from oracle import Problem, cosines, forward, negatives
from test_forward import TYPES

from support.chosen import each, pairwise

pytestmark = pytest.mark.ptx

IGNORED, BAD_LABEL = 0x7FFFFFFE, 0x7FFFFFFF
# One rounding to the type, relative, and the spacing of fp16's smallest numbers.
ROUNDING = {"bf16": (2.0**-8, 0.0), "fp16": (2.0**-11, 6e-8), "tf32": (2.0**-11, 0.0), "fp32": (0.0, 0.0)}
FP32 = 6e-6  # exp(scale * c - lse) of cosines and log-sum-exps that were rounded to fp32


def scaled(p: Problem, u: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return u * np.float32(p.scale)


def upstream(rows: int, size: float = 1.0, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    u = (size * rng.uniform(0.1, 1.0, rows)).astype(np.float32)
    return u, (-size * rng.uniform(0.1, 1.0, rows)).astype(np.float32)


def row_input(p: Problem, u: np.ndarray, t: np.ndarray, *, splits: int = 3) -> RowInput:
    """Dense partials of what the row's dense kernels owe: sums of p * w-hat and of p * c, without factors."""
    out, cos, w = forward(p), cosines(p), unit(p.w)
    rows, classes = cos.shape
    good = (p.labels >= 0) & (p.labels < classes)
    basket = np.searchsorted(p.offsets, p.labels, side="right") - 1
    basket = np.where(good, basket, np.where(p.labels == p.ignore_index, IGNORED, BAD_LABEL))
    order = np.lexsort((np.arange(rows), basket))
    dense = np.zeros_like(cos)
    for i in np.flatnonzero(good & ~np.isneginf(out.lse)):
        for b in range(p.baskets):
            if b == basket[i] or p.rule == "all":
                own = slice(*p.offsets[b : b + 2])
                chosen = negatives(p, cos, i, b, np.inf)
                dense[i, own] = np.where(chosen, np.exp(p.scale * cos[i, own] - out.lse[i]), 0)
        if not np.isfinite(scaled(p, u[i])):
            dense[i] = np.nan
    split = np.arange(classes) // 3 % splits
    c = np.where(np.isnan(cos), 0, cos)
    dx = np.stack([(dense * (split == n)) @ w for n in range(splits)])[:, order]
    dot = np.stack([(dense * c * (split == n)).sum(1) for n in range(splits)])[:, order]
    with np.errstate(all="ignore"):
        n2 = (p.x * p.x).sum(1)
    finite = np.isfinite(n2) & (n2 <= np.finfo(np.float32).max)
    inverse = np.where(finite, inverse_norms(p.x), np.nan)
    return RowInput(out, inverse, basket, order, u, t, dx, dot)


def check_factors(p: Problem, given: RowInput, kind: str, got: dict) -> None:
    operand = TYPES[kind][0]
    rows, dim = p.x.shape
    order, lse = given.order, given.forward.lse.astype(np.float32)
    good = (given.basket < IGNORED)[order]
    gradient = scaled(p, given.grad_lse)
    dense = np.where((given.basket < IGNORED) & ~np.isneginf(lse), gradient, 0)[order]
    finite = np.isfinite(dense)
    top = np.abs(dense[finite]).max(initial=0)
    assert got["grad_scale"][0] == top
    factor = np.where(finite & (top > 0), dense / (top or 1), 0)
    np.testing.assert_allclose(got["row_factor"][:rows], factor, rtol=1e-6)
    want = np.where(good & ~np.isneginf(lse[order]), lse[order], np.inf)
    want[~finite] = np.nan
    np.testing.assert_array_equal(got["dense_lse"][:rows], want)
    x_hat = np.where((good & ~np.isnan(given.inverse_norm[order]))[:, None], unit(p.x)[order], 0)
    rtol, atol = ROUNDING[operand]
    np.testing.assert_allclose(
        got["x_hat"][:rows, :dim].astype(np.float64), x_hat, rtol=rtol + 1e-6, atol=atol
    )
    assert not got["x_hat"][rows:].any()
    assert not got["x_hat"][:, dim:].any()
    assert not got["row_factor"][rows:].any()
    assert np.isposinf(got["dense_lse"][rows:]).all()


def check_pairs(p: Problem, given: RowInput, got: np.ndarray) -> None:
    """Slot by slot; rows in their order, mined classes in that of the forward."""
    w_inverse = np.where(np.isnan(cosines(p)).all(0), np.nan, inverse_norms(p.w))
    for position, i in enumerate(given.order):
        active = given.basket[i] < IGNORED
        mined = given.forward.mined_idx[i].ravel()
        labels = np.append(p.labels[i], mined) if active else np.full(1 + len(mined), -1)
        real = labels >= 0
        row = got[position]
        assert (row["position"] == position).all()
        np.testing.assert_array_equal(row["label"], np.where(real, labels, NO_PAIR))
        cos = np.append(given.forward.cos_t[i], given.forward.mined_cos[i].ravel()).astype(np.float32)
        np.testing.assert_array_equal(row["cos"], np.where(real, cos, 0))
        lse, u = np.float32(given.forward.lse[i]), float(given.grad_lse[i])
        with np.errstate(all="ignore"):
            coefficient = u * p.scale * np.exp(p.scale * cos.astype(np.float64) - lse) if u else 0 * cos
        coefficient = np.where(real, coefficient, 0)
        coefficient[0] = (
            0 if not active else np.nan if np.isnan(given.inverse_norm[i]) else given.grad_cos_t[i]
        )
        np.testing.assert_allclose(row["coefficient"], coefficient, rtol=2e-6, atol=1e-38)
        if active and not np.isnan(given.forward.lse[i]):
            inverse = np.where(real, w_inverse[np.where(real, labels, 0)], 0)
            np.testing.assert_allclose(row["class_inverse"], inverse, rtol=1e-6)


def expected_dx(p: Problem, given: RowInput) -> np.ndarray:
    u, t = given.grad_lse.astype(np.float64), given.grad_cos_t.astype(np.float64)
    finite = np.where(np.isfinite(scaled(p, given.grad_lse)), u, 0)
    dcos, _ = coefficients(p, given.forward, finite, t)
    c = np.where(np.isnan(cosines(p)), 0, cosines(p))
    dx = inverse_norms(p.x)[:, None] * (dcos @ unit(p.w) - (dcos * c).sum(1)[:, None] * unit(p.x))
    active = given.basket < IGNORED
    dx[(active & (np.isnan(given.forward.lse) | (finite != u))) | (given.basket == BAD_LABEL)] = np.nan
    return dx


def check_dx(p: Problem, given: RowInput, kind: str, got: np.ndarray) -> None:
    want = expected_dx(p, given)
    dcos, _ = coefficients(p, given.forward, np.nan_to_num(given.grad_lse), given.grad_cos_t)
    rtol, atol = ROUNDING[TYPES[kind][0]]
    if TYPES[kind][0] == "tf32":
        rtol = 0.0  # gradients of fp32 rows are fp32
    for i, row in enumerate(want):
        size = np.abs(dcos[i]).max() * inverse_norms(p.x[i : i + 1])[0]  # what the projection is taken off
        np.testing.assert_array_equal(np.isnan(got[i]), np.isnan(row), err_msg=f"row {i}")
        np.testing.assert_allclose(got[i], row, rtol=rtol + 1e-6, atol=atol + FP32 * size, err_msg=f"row {i}")
        if np.isfinite(row).all() and (given.inverse_norm[i] == 0 or not dcos[i].any()):
            assert not got[i].any(), f"row {i} owes exact zeros"


def check(p: Problem, kind: str, u: np.ndarray, t: np.ndarray, **options) -> dict:
    operand, w_bytes = TYPES[kind]
    given = row_input(p, u, t)
    got = run_rows(p, given, operand, w_bytes=w_bytes, **options)
    check_factors(p, given, kind, got)
    check_pairs(p, given, got["pairs"])
    check_dx(p, given, kind, got["dx"])
    return got


def problem(kind: str, rows: int, dim: int, sizes: list[int], k: int, seed: int = 0) -> Problem:
    """Labels repeat, so that classes have several rows, and rows of one basket share the mined classes."""
    rule = {"rule": "topk", "k": k, "skip": 1} if k else {"rule": "own"}
    p = cases.planted(TYPES[kind][0], rows, dim, sizes, seed=seed, **rule)
    p.labels[rows // 2 :] = p.labels[: rows - rows // 2]
    return p


@pairwise(kind=TYPES, layout=["rows", "columns"])
def test_types(kind, layout):
    """A basket smaller than k, an empty one, an ignored row; then the sort of what came out."""
    p = problem(kind, 13, 48, [31, 2, 0, 40], k=5)
    got = check(p, kind, *upstream(13), transposed=layout == "columns")
    pairs = got["pairs"].ravel()
    labels, counts = np.unique(pairs["label"], return_counts=True)
    assert counts[labels != NO_PAIR].max() > 1
    assert NO_PAIR in labels
    want = pairs[np.lexsort((pairs["position"], pairs["label"]))]
    np.testing.assert_array_equal(sort_pairs(pairs, len(p.w)), want)


@each(kind=TYPES, layout=["rows", "columns"])
def test_rounds_centres_to_the_operand(kind, layout):
    operand = TYPES[kind][0]
    p = problem(kind, 7, 24, [20, 30], k=3)
    exact = p.w + 1e-3 * np.random.default_rng(1).standard_normal(p.w.shape)
    p.w = round_to(operand, exact)
    given = row_input(p, *upstream(7))
    raw = Problem(**{**vars(p), "w": exact.astype(np.float32)})
    got = run_rows(raw, given, operand, w_bytes=TYPES[kind][1], transposed=layout == "columns")
    check_pairs(p, given, got["pairs"])
    check_dx(p, given, kind, got["dx"])


@each(
    kind=["bf16", "bf16-w32", "tf32", "fp32"],
    layout=["rows", "columns"],
    dim=[1, 7, 31, 97, 512, 513, 1040, 2049],
)
def test_dimensions(kind, layout, dim):
    """One run of few values, one of many, and two; by vectors and by elements."""
    check(problem(kind, 5, dim, [9, 11], k=3), kind, *upstream(5), transposed=layout == "columns")


@each(
    kind=["bf16", "fp16-w32", "fp32"],
    of=[(64, (3, 3, 3)), (64, (8, 8, 8)), (31, (0, 1, 1))],
    layout=["rows", "columns"],
)
def test_strides(kind, of, layout):
    """Rows of w that begin on 16 bytes, those that do not, and those that begin there but do not end there."""
    dim, padding = of
    p = problem(kind, 9, dim, [20, 31], k=4)
    check(p, kind, *upstream(9), padding=padding, transposed=layout == "columns")


@each(kind=["bf16", "fp32"], lists=[(3, 0), (2, 1), (4, 31), (3, 45), (9, 15)])
def test_numbers_of_pairs(kind, lists):
    """1, 3, 125, 136 pairs per row: around the 128 that a block takes at a time, some slots never filled."""
    baskets, k = lists
    check(problem(kind, 5, 40, [40] * baskets, k=k), kind, *upstream(5))


@each(kind=["bf16", "fp16", "tf32", "fp32"], build=cases.TROUBLED, rule=["own", "all", "topk"])
def test_troubled_rows(kind, build, rule):
    p = build(TYPES[kind][0], **({"rule": "topk", "k": 4, "skip": 1} if rule == "topk" else {"rule": rule}))
    check(p, kind, *upstream(len(p.labels)))


@each(kind=["bf16", "tf32", "fp32"], size=[0.0, 1e-8, 1e6])
def test_upstream_sizes(kind, size):
    check(problem(kind, 9, 40, [30, 20], k=4), kind, *upstream(9, size))


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_one_part_only(kind):
    """A gradient of the target cosine alone, and of the log-sum-exp alone."""
    p = problem(kind, 9, 40, [30, 20], k=4)
    u, t = upstream(9)
    check(p, kind, 0 * u, t)
    check(p, kind, u, 0 * t)


@each(kind=["bf16", "fp32"], value=[np.nan, np.inf, -np.inf, 3e38])
def test_upstream_not_finite_stays_in_its_row(kind, value):
    """3e38 is finite, but not times the scale."""
    p = problem(kind, 9, 40, [30, 20], k=4)
    u, t = upstream(9)
    before = run_rows(p, row_input(p, u, t), kind, w_bytes=TYPES[kind][1])
    u[3] = value
    given = row_input(p, u, t)
    got = run_rows(p, given, kind, w_bytes=TYPES[kind][1])
    others = np.arange(9) != 3
    assert np.isnan(got["dx"][3]).all()
    np.testing.assert_array_equal(got["dx"][others], before["dx"][others])
    at = np.flatnonzero(given.order == 3)[0]
    assert np.isnan(got["dense_lse"][at])
    assert got["row_factor"][at] == 0
    assert np.isfinite(np.delete(got["dense_lse"][:9], at)).sum() == 7  # an ignored row has +inf
    assert np.abs(got["row_factor"]).max() == 1
    mined = got["pairs"][at][1:]
    assert not np.isfinite(mined["coefficient"][mined["label"] != NO_PAIR]).any()


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_class_zero_is_nan(kind):
    """An empty slot has no class: nothing of class 0 may reach a row that does not touch it."""
    p = problem(kind, 9, 40, [30, 20], k=0)
    p.w[0, 3] = np.nan
    got = check(p, kind, *upstream(9))
    assert np.isfinite(got["dx"]).any()
    assert np.isnan(got["dx"]).any()


def test_nan_seen_in_another_basket_only():
    """The row has no dense part and no mined pair that could bring the NaN: it comes from its log-sum-exp."""
    p = problem("fp32", 5, 24, [1, 30], k=3)
    p.labels[:] = 0
    p.w[7, 2] = np.nan
    assert np.isnan(check(p, "fp32", *upstream(5))["dx"]).all()


def test_no_negatives():
    """One class per basket and nothing mined: lse = -inf; an upstream gradient of 0 or not gives no dense gradient."""
    p = problem("fp32", 6, 16, [1, 1, 1], k=0)
    u, t = upstream(6)
    got = check(p, "fp32", u, t)
    assert np.isposinf(got["dense_lse"]).all()
    assert got["grad_scale"][0] == 0
    check(p, "fp32", 0 * u, 0 * t)


def test_all_rows_ignored():
    p = problem("bf16", 5, 32, [20, 30], k=2)
    p.labels[:] = -1
    got = check(p, "bf16", *upstream(5))
    assert not got["dx"].any()
    assert (got["pairs"]["label"] == NO_PAIR).all()


def test_many_rows():
    """More than row_scale has threads, the largest factor late, of either sign."""
    p = problem("bf16", 530, 8, [40, 30], k=0)
    u, t = upstream(530)
    u[521] = -7
    got = check(p, "bf16", u, t)
    assert np.abs(got["row_factor"]).max() == 1


def test_no_dx():
    """Pairs and factors are the same; nothing of dx is written."""
    p = problem("bf16", 9, 600, [30, 20], k=4)
    given = row_input(p, *upstream(9))
    full = run_rows(p, given, "bf16", w_bytes=2)
    got = run_rows(p, given, "bf16", w_bytes=2, need_dx=False)
    assert not {"sparse_dx", "sparse_dot", "dx"} & got.keys()
    for name in got:
        np.testing.assert_array_equal(got[name], full[name])


@each(kind=["bf16", "bf16-w32", "fp32"], dim=[40, 1040])
def test_schedules_give_the_same_bits(kind, dim):
    operand, w_bytes = TYPES[kind]
    p = problem(kind, 6, dim, [40, 30, 20], k=7)
    given = row_input(p, *upstream(6))
    first = run_rows(p, given, operand, w_bytes=w_bytes)
    for seed in (1, 2, 3):
        again = run_rows(p, given, operand, w_bytes=w_bytes, seed=seed)
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.parametrize("arch", cases.ARCHS)
def test_architectures(arch):
    check(problem("bf16", 7, 40, [30, 20], k=4), "bf16", *upstream(7), arch=arch)
