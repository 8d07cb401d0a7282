"""The forward kernels in the PTX machine against the dense fp64 oracle: kernel x type x rule x odd shape x schedule."""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from executor import Forward

from support.chosen import each, pairwise

pytestmark = pytest.mark.ptx

COS_TOLERANCE = (
    2e-6  # the oracle gets the rounded operands, so that only fp32 accumulation differs, in every type
)
TYPES = {
    "bf16": ("bf16", 2),
    "fp16": ("fp16", 2),
    "bf16-w32": ("bf16", 4),
    "fp16-w32": ("fp16", 4),
    "tf32": ("tf32", 4),
    "fp32": ("fp32", 4),
}
RULES = {
    "all": {"rule": "all"},
    "own": {"rule": "own"},
    "below": {"rule": "below", "guard": "absolute", "guard_value": 0.15},
    "topk": {"rule": "topk", "k": 5, "skip": 1},
}
GUARDED = {
    "below-relative": {"rule": "below", "guard": "relative", "guard_value": 0.2},
    "below-rows": {"rule": "below", "guard": "rows"},
    "topk-absolute": {"rule": "topk", "k": 4, "guard": "absolute", "guard_value": 0.2},
    "topk-relative": {"rule": "topk", "k": 4, "skip": 2, "guard": "relative", "guard_value": 0.3},
    "topk-k0": {"rule": "topk", "k": 0},
}


def agree(p: oracle.Problem, got: oracle.Result, exact: bool = False) -> None:
    want = oracle.forward(p)
    cos = oracle.cosines(p)
    np.testing.assert_allclose(got.cos_t, want.cos_t, rtol=0, atol=COS_TOLERANCE, equal_nan=True)
    lse_tolerance = p.scale * COS_TOLERANCE
    np.testing.assert_allclose(got.lse, want.lse, rtol=2e-6, atol=lse_tolerance, equal_nan=True)
    assert ((got.mined_idx < 0) == (want.mined_idx < 0)).all()
    np.testing.assert_allclose(got.mined_cos, want.mined_cos, rtol=0, atol=COS_TOLERANCE)
    differs = got.mined_idx != want.mined_idx
    if exact:
        assert not differs.any()
    for i, b, n in zip(
        *np.nonzero(differs), strict=True
    ):  # another class is right only if it ties within rounding
        assert abs(cos[i, got.mined_idx[i, b, n]] - cos[i, want.mined_idx[i, b, n]]) <= COS_TOLERANCE
        assert len(set(got.mined_idx[i, b])) == len(got.mined_idx[i, b])
    c, idx = got.mined_cos.astype(np.float64), got.mined_idx
    if idx.shape[2] > 1:  # key order, by the kernel's own bits
        real = idx[..., 1:] >= 0
        ordered = (c[..., :-1] > c[..., 1:]) | ((c[..., :-1] == c[..., 1:]) & (idx[..., :-1] < idx[..., 1:]))
        assert ordered[real].all()


def check(p: oracle.Problem, kind: str, exact: bool = False, seed: int = 0, **options) -> Forward:
    operand, w_bytes = TYPES[kind]
    call = Forward(p, operand, w_bytes=w_bytes, **options)
    agree(p, call.run(seed=seed), exact)
    return call


def guarded(p: oracle.Problem) -> oracle.Problem:
    if p.guard == "rows":
        p.guard_rows = np.linspace(-0.2, 0.4, len(p.labels)).astype(np.float32).astype(np.float64)
    return p


@pairwise(kind=TYPES, rule=RULES, layout=["rows", "columns"], keep=["resident", "streaming"])
def test_types(kind, rule, layout, keep):
    """Two row blocks in bf16, three splits, partial tiles, an empty basket; D of one and a half k-tiles."""
    rows = 140 if kind == "bf16" else 40
    p = cases.planted(TYPES[kind][0], rows, 48, [130, 0, 25, 61], **RULES[rule])
    call = check(p, kind, transposed=layout == "columns", streaming=keep == "streaming")
    assert call.built("cos_lse_sweep")["resident"] == (keep == "resident")


@each(kind=["bf16", "bf16-w32", "tf32", "fp32"], rule=["topk", "below"], seed=[1, 2, 3])
def test_schedules(kind, rule, seed):
    """Random interleavings of the warps, one split: baskets change inside a block's walk."""
    check(
        cases.planted(TYPES[kind][0], 30, 72, [140, 33, 90], **RULES[rule]),
        kind,
        seed=seed,
        multiprocessors=1,
    )


@each(kind=["bf16", "bf16-w32", "fp16", "tf32", "fp32"], layout=["rows", "columns"], dim=[1, 7, 31, 97, 128])
def test_odd_dimensions(kind, layout, dim):
    p = cases.planted(TYPES[kind][0], 9, dim, [40, 31], rule="topk", k=3, skip=1)
    check(p, kind, transposed=layout == "columns")


@each(kind=["bf16", "bf16-w32", "fp32"], layout=["rows", "columns"], w_padding=[8, 3])
def test_strided_w(kind, layout, w_padding):
    p = cases.planted(TYPES[kind][0], 9, 64, [40, 32], rule="topk", k=3)
    call = check(p, kind, transposed=layout == "columns", w_padding=w_padding)
    assert call.built("cos_lse_sweep")["vectors"] == (w_padding == 8)


@each(kind=["bf16", "fp32"], rule=GUARDED)
def test_guards(kind, rule):
    check(guarded(cases.planted(kind, 30, 40, [60, 35, 50], **GUARDED[rule])), kind)


@each(kind=["bf16", "fp32"], rule=[*RULES, "topk-skip3"])
def test_aliases(kind, rule):
    options = RULES.get(rule, {"rule": "topk", "k": 6, "skip": 3})
    check(cases.with_aliases(cases.planted(kind, 40, 40, [160, 35, 50], **options), 30), kind)


@each(kind=TYPES, layout=["rows", "columns"])
def test_ties_are_exact(kind, layout):
    """Cosines that are multiples of 1/16: dozens tie, and only the smaller index may decide."""
    p = cases.dyadic(TYPES[kind][0], 20, 32, [150, 1, 140], rule="topk", k=12, skip=2)
    check(p, kind, exact=True, transposed=layout == "columns")


@each(kind=["bf16", "fp32"], lists=[(31, 1), (32, 1), (64, 1), (127, 1), (1, 127)])
def test_long_lists(kind, lists):
    """Four tiles of one basket through one queue: it fills, its threshold rises, and it is shorter than the basket."""
    k, skip = lists
    p = cases.dyadic(kind, 12, 32, [20, 500], rule="topk", k=k, skip=skip)
    check(p, kind, exact=True, multiprocessors=1)


@pytest.mark.parametrize("multiprocessors", [1, 2, 40])
def test_splits_do_not_change_the_selection(multiprocessors):
    p = cases.dyadic("bf16", 12, 32, [300, 70, 260], rule="topk", k=20, skip=1)
    check(p, "bf16", exact=True, multiprocessors=multiprocessors)


def test_many_small_baskets():
    sizes = [1, 2, 3, 0] * 15
    check(cases.planted("bf16", 40, 32, sizes, rule="topk", k=2, skip=1), "bf16")
    check(cases.planted("bf16", 40, 32, sizes, rule="own"), "bf16")


@pairwise(kind=["bf16", "fp16", "tf32", "fp32"], build=cases.TROUBLED, rule=RULES)
def test_troubled_rows(kind, build, rule):
    p = build(TYPES[kind][0], **RULES[rule])
    call = check(p, kind)
    if build is cases.bad_label:
        assert call.report.startswith(
            tuple(
                f"labels of an earlier call: expected 0 to 69 or ignore_index, got {label};"
                for label in (70, -7)
            )
        )
    else:
        assert call.report is None


@each(
    bits=[0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000, 0x7FC00000, 0xFF800000],
    where=["x", "w"],
    rule=["own", "topk"],
)
def test_tf32_keeps_every_nan(bits, where, rule):
    """Rounding by an addition makes numbers of those whose upper bits are all ones, as a GPU's own NaN has them."""
    p = cases.planted("tf32", 20, 40, [50, 90], **RULES[rule])
    p.labels[7], p.labels[p.labels == 60] = 70, 61
    at = (7, 5) if where == "x" else (60, 5)
    getattr(p, where)[at] = np.uint32(bits).view(np.float32)
    assert getattr(p, where)[at].astype(np.float32).view(np.uint32) == bits
    check(p, "tf32")
    assert np.isnan(oracle.forward(p).lse[7])


@each(
    kind=["bf16", "bf16-w32", "fp32"],
    layout=["rows", "columns", "columns-any-stride"],
    bad=[49, 50],
    rule=["own", "topk-k0"],
)
def test_nan_does_not_leak_through_a_shared_chunk(kind, layout, bad, rule):
    sizes = (50, 87) if layout == "columns-any-stride" else (50, 86)
    p = cases.nan_beside_a_basket(TYPES[kind][0], bad, sizes, **(RULES | GUARDED)[rule])
    call = check(p, kind, transposed=layout != "rows")
    assert call.saved[0].isnan().sum() == 10  # of the NaN's own basket


def test_guard_is_nan():
    p = guarded(cases.planted("bf16", 12, 32, [40, 50], **GUARDED["below-rows"]))
    p.guard_rows[3] = np.nan
    check(p, "bf16")


@each(kind=["bf16", "fp32"], rule=RULES, size=cases.SMALLEST)
def test_smallest(kind, rule, size):
    rows, sizes = cases.SMALLEST[size]
    check(cases.planted(kind, rows, 16, sizes, **RULES[rule]), kind)


def test_all_rows_ignored():
    p = cases.planted("bf16", 5, 32, [20, 30], rule="topk", k=2)
    p.labels[:] = -1
    check(p, "bf16")


@pytest.mark.parametrize("kind", ["bf16", "tf32", "fp32"])
def test_bits_depend_on_the_pair_only(kind):
    """The same rows and classes elsewhere: other tile positions, splits, baskets, residency and stride order."""
    p = cases.planted(TYPES[kind][0], 30, 40, [100, 60], rule="topk", k=8)
    first = Forward(p, kind).run()
    order = np.arange(30)[::-1]
    moved = oracle.Problem(p.x[order], p.w, p.labels[order], p.offsets, rule="topk", k=8)
    second = Forward(moved, kind, multiprocessors=1, streaming=True, transposed=True).run(seed=5)
    assert (first.cos_t == second.cos_t[order]).all()
    assert (first.mined_idx == second.mined_idx[order]).all()
    assert (first.mined_cos == second.mined_cos[order]).all()
    for i in np.flatnonzero(p.labels >= 0):  # a class that repeats the target ties with c_t exactly
        twin = np.flatnonzero((p.w == p.w[p.labels[i]]).all(1))
        for at in np.argwhere(np.isin(first.mined_idx[i], twin)):
            assert first.mined_cos[i][tuple(at)] == first.cos_t[i]


@each(kind=["bf16", "bf16-w32", "fp32"], arch=cases.ARCHS)
def test_architectures(kind, arch):
    check(cases.planted(TYPES[kind][0], 9, 40, [140, 33], rule="topk", k=5, skip=1), kind, arch=arch)
