"""A cosine's bits depend on its embedding, its centre and D alone, so that exact copies tie on every occasion."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.rules import Own, Relative, TopK

from .problem import Problem, make
from .strategies import LAYOUTS, layout

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def all_cosines(problem: Problem) -> dict[tuple[int, int], float]:
    """Cosine of every (row, class of another basket), read off mined_cos with k >= every basket size."""
    _, _, idx, cos = problem.replace(mining=TopK(120, 0)).kernel()
    rows = torch.arange(len(idx))[:, None, None].expand_as(idx)
    listed = idx >= 0
    keys = zip(rows[listed].tolist(), idx[listed].tolist(), strict=True)
    return dict(zip(keys, cos[listed].tolist(), strict=True))


@pytest.mark.parametrize("depth", [7, 64, 129])
def test_order_and_number_of_rows(dtype: torch.dtype, depth: int) -> None:
    problem = make(rows=50, depth=depth, sizes=(40, 50, 60), dtype=dtype, ignored=0.0)
    _, cos_t, idx, cos = problem.kernel()
    order = torch.randperm(50)
    for rows in (order, order[:1], order[:17], torch.cat([order, order])):
        got = problem.replace(x=problem.x[rows], labels=problem.labels[rows]).kernel()
        assert torch.equal(got[1], cos_t[rows])
        assert torch.equal(got[2], idx[rows])
        assert torch.equal(got[3], cos[rows])


@pytest.mark.parametrize("depth", [7, 64, 129])
def test_place_of_the_classes(dtype: torch.dtype, depth: int) -> None:
    """The same centres, shifted by any number of other centres and spread over other baskets."""
    problem = make(rows=20, depth=depth, sizes=(30, 70), dtype=dtype, ignored=0.0)
    problem.labels.remainder_(30)
    want, cos_t = all_cosines(problem), problem.kernel()[1]
    for shift in (1, 5, 6, 47, 100):
        other = torch.randn(shift, depth).to(dtype)
        w = torch.cat([problem.w[:30], other, problem.w[30:], other])
        offsets = torch.tensor([0, 30, 30 + shift, 30 + shift + 33, 100 + shift, 100 + 2 * shift])
        moved = problem.replace(w=w, offsets=offsets)
        got = all_cosines(moved)
        for (row, cls), value in want.items():
            assert got[row, cls + shift] == value
        assert torch.equal(moved.kernel()[1], cos_t)


def test_strides_of_x_and_w(dtype: torch.dtype) -> None:
    problem = make(rows=33, depth=31, sizes=(48, 49), dtype=dtype)
    want = problem.kernel()
    for kind in LAYOUTS:
        for moved in (problem.replace(w=layout(problem.w, kind)), problem.replace(x=layout(problem.x, kind))):
            for a, b in zip(moved.kernel(), want, strict=True):
                assert torch.equal(a, b)


def test_rounded_fp32_centres_are_the_16_bit_centres() -> None:
    problem = make(dtype=torch.bfloat16, w_dtype=torch.float32)
    for a, b in zip(problem.kernel(), problem.replace(w=problem.w.bfloat16()).kernel(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("depth", [5, 31, 64, 200])
def test_target_cosine_equals_that_of_a_copy_in_another_basket(dtype: torch.dtype, depth: int) -> None:
    problem = make(rows=64, depth=depth, sizes=(40, 40), dtype=dtype, copies=0.0, ignored=0.0)
    problem.labels.remainder_(40)
    problem.w[40:] = problem.w[:40]
    _, cos_t, idx, cos = problem.replace(mining=TopK(40, 0)).kernel()
    at = (idx[:, 1] == problem.labels[:, None] + 40).nonzero()
    assert len(at) == 64
    assert torch.equal(cos[at[:, 0], 1, at[:, 1]], cos_t)


def test_relative_guard_of_zero_admits_an_exact_copy(dtype: torch.dtype) -> None:
    """g = c_t, and a copy of the target has exactly c_t: not above the guard."""
    problem = make(
        rows=30, sizes=(40, 40), dtype=dtype, copies=0.0, ignored=0.0, mining=TopK(40, 0, Relative(0.0))
    )
    problem.labels.remainder_(40)
    problem.w[40:] = problem.w[:40]
    _, _, idx, _ = problem.kernel()
    assert (idx[:, 1, 0] == problem.labels + 40).all()


def test_no_negative_zero(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=dtype)
    w = torch.tensor([[0.0, 1.0], [-0.0, -1.0], [0.0, -2.0], [0.0, 0.0]], dtype=dtype)
    problem = Problem(x, w, torch.tensor([0, 1]), torch.tensor([0, 2, 4]), TopK(2, 0))
    _, cos_t, _, cos = problem.kernel()
    assert not cos_t.signbit().any()
    assert not cos.signbit().any()


def test_target_cos_op_gives_the_same_bits(dtype: torch.dtype) -> None:
    problem = make(rows=40, dtype=dtype, mining=Own())
    got = torch.ops.bbs_kernels.target_cos(problem.x, problem.w, problem.labels, problem.offsets, -1)
    assert torch.equal(got, problem.kernel()[1])
