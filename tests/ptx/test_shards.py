"""row_basket, row_alias, mined_in_lse in the PTX machine: shards of the classes, put together, are the whole."""

from __future__ import annotations

from dataclasses import replace

import cases
import numpy as np
import pytest
from backward_executor import Backward
from executor import Forward
from gradient_oracle import gradients
from oracle import Problem, Result
from oracle import forward as oracle_forward
from test_backward import close, planted, upstream
from test_forward import RULES, TYPES

from support.chosen import each

pytestmark = pytest.mark.ptx

CUTS = {
    "three": lambda c: [c % 3 == n for n in range(3)],
    "by basket": lambda c: [c < 150, c >= 150],
    "one is empty": lambda c: [c >= 0, c < 0],
}


def shard(p: Problem, kept: np.ndarray) -> tuple[Problem, np.ndarray]:
    """The part of a problem whose classes are kept, and their indices."""
    index = np.flatnonzero(kept)
    valid = p.labels != p.ignore_index
    labels = np.where(valid, p.labels, 0)
    basket = np.searchsorted(p.offsets, labels, side="right") - 1
    part = replace(
        p, w=p.w[index], offsets=np.searchsorted(index, p.offsets),
        labels=np.where(valid & kept[labels], np.searchsorted(index, labels), -(2**33) + 5),
        row_basket=np.where(valid, basket, -1),
    )  # fmt: skip
    if p.aliases is not None:
        part = replace(part, aliases=p.aliases[index], row_alias=np.where(valid, p.aliases[labels], -1))
    return part, index


def forward(p: Problem, kind: str, **options) -> Result:
    operand, w_bytes = TYPES[kind]
    return Forward(p, operand, w_bytes=w_bytes, **options).run()


def assert_bits(got: Result, want: Result) -> None:
    for name in ("lse", "cos_t", "mined_idx", "mined_cos"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


@each(kind=["bf16", "bf16-w32", "tf32", "fp32"], rule=RULES)
def test_a_shard_with_everything_is_the_plain_call(kind, rule):
    p = cases.with_aliases(cases.planted(TYPES[kind][0], 30, 40, [130, 0, 25, 61], **RULES[rule]), 40)
    whole, _ = shard(p, np.ones(216, bool))
    assert_bits(forward(whole, kind), forward(p, kind))
    aliases_of_labels = replace(whole, row_alias=None)
    assert_bits(forward(aliases_of_labels, kind), forward(p, kind))


@each(kind=["bf16", "fp32"], rule=["all", "own", "below"], cut=CUTS)
def test_parts_of_the_log_sum_exp_are_the_whole(kind, rule, cut):
    p = cases.with_aliases(cases.planted(kind, 30, 40, [130, 0, 25, 61], **RULES[rule]), 40)
    p.x[7] = np.nan
    want = forward(p, kind)
    parts = [forward(shard(p, kept)[0], kind) for kept in CUTS[cut](np.arange(216))]
    with np.errstate(invalid="ignore"):
        lse = np.logaddexp.reduce([part.lse.astype(np.float64) for part in parts])
    np.testing.assert_allclose(lse, want.lse, rtol=2e-6, atol=1e-5)
    np.testing.assert_array_equal(
        sum(part.cos_t for part in parts)[p.labels != -1], want.cos_t[p.labels != -1]
    )


@each(kind=["bf16", "fp32"], cut=CUTS)
def test_lists_of_the_shards_hold_what_one_process_mines(kind, cut):
    """Cosines that tie by the dozen: the k + skip best of each shard, merged in key order and cut, bit for bit."""
    p = cases.dyadic(kind, 20, 32, [150, 1, 65], rule="topk", k=6, skip=2)
    want, own = forward(p, kind), forward(replace(p, rule="own", k=0, skip=0), kind)
    idx, cos, lse = [], [], []
    for kept in CUTS[cut](np.arange(216)):
        part, index = shard(replace(p, k=8, skip=0, mined_in_lse=False), kept)
        out = forward(part, kind)
        idx.append(np.where(out.mined_idx < 0, 10**6, np.append(index, 0)[out.mined_idx]))
        cos.append(np.where(out.mined_idx < 0, -np.inf, out.mined_cos))
        lse.append(out.lse.astype(np.float64))
    idx, cos = np.concatenate(idx, 2), np.concatenate(cos, 2)
    order = np.lexsort((idx, -cos))[:, :, 2:8]
    idx, cos = np.take_along_axis(idx, order, 2), np.take_along_axis(cos, order, 2)
    np.testing.assert_array_equal(np.where(cos == -np.inf, -1, idx), want.mined_idx)
    np.testing.assert_array_equal(np.where(cos == -np.inf, 0, cos), want.mined_cos)
    np.testing.assert_allclose(np.logaddexp.reduce(lse), own.lse, rtol=2e-6, atol=1e-5)


def test_skip_is_less_by_the_mates_on_this_shard():
    """The row's class is elsewhere, so that its alias comes with the row."""
    p = cases.dyadic("fp32", 20, 32, [50, 60], rule="topk", k=4, skip=2)
    p.aliases = np.arange(110) % 37
    part, index = shard(p, np.arange(110) >= 50)
    got, want = forward(part, "fp32"), forward(p, "fp32")
    rows = p.labels < 50
    assert rows.any()
    local = np.where(want.mined_idx[rows, 1] < 0, -1, want.mined_idx[rows, 1] - 50)
    np.testing.assert_array_equal(got.mined_idx[rows, 1], local)
    assert (p.aliases[index][got.mined_idx[rows, 1]] != part.row_alias[rows][:, None]).all()


@each(kind=["bf16", "bf16-w32", "fp32"], rule=RULES, cut=CUTS)
def test_gradients_of_the_shards_are_the_whole(kind, rule, cut):
    """With the log-sum-exp of all classes and the mined classes that a shard holds."""
    operand, w_bytes = TYPES[kind]
    p = planted(kind, 30, 48, [130, 0, 25, 61], rule)
    u, t = upstream(30)
    whole, want = oracle_forward(p), gradients(p, u, t)
    dx, dw = np.zeros_like(p.x), np.zeros_like(p.w)
    for kept in CUTS[cut](np.arange(216)):
        part, index = shard(p, kept)
        mine = (whole.mined_idx >= 0) & kept[whole.mined_idx]
        local = np.where(mine, np.searchsorted(index, whole.mined_idx), -1)
        saved = Result(whole.lse, whole.cos_t, local, np.where(mine, whole.mined_cos, 0.0))
        call = Backward(part, operand, u, t, w_bytes=w_bytes, forward=saved)
        part_dx, dw[index] = call.run()
        dx += part_dx
    close(dx, want.dx, want.dx_terms, operand)
    close(dw, want.dw, want.dw_terms, operand)


def test_partial_gradients_of_the_rows_are_not_rounded():
    p = planted("bf16", 12, 48, [60, 50], "topk")
    u, t = upstream(12)
    part, _ = shard(p, np.ones(110, bool))
    (dx, dw), (rounded, same) = (Backward(q, "bf16", u, t, w_bytes=4).run() for q in (part, p))
    np.testing.assert_array_equal(dw, same)
    assert (dx != rounded).any()
    np.testing.assert_allclose(dx, rounded, rtol=2**-8)


@pytest.mark.parametrize(("row", "basket", "label"), [(5, 2, -1), (5, -2, 3), (5, 1, 3), (5, 0, 110)])
def test_a_place_that_does_not_exist_is_told(row, basket, label):
    """A basket out of range, or a label that is not in it: NaN, and nothing is read out of bounds."""
    part, _ = shard(cases.planted("fp32", 12, 16, [60, 50], rule="topk", k=3), np.ones(110, bool))
    good = forward(part, "fp32")
    part.row_basket[row], part.labels[row] = basket, label
    call = Forward(part, "fp32")
    got = call.run()
    others = np.arange(12) != row
    assert np.isnan(got.lse[row])
    assert np.isnan(got.cos_t[row])
    assert (got.mined_idx[row] == -1).all()
    np.testing.assert_array_equal(got.lse[others], good.lse[others])
    assert f": expected 0 to 109 or ignore_index, got {label};" in call.report
