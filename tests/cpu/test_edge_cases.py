"""The edge cases of the loss, by name, over dtypes and rules: forward and backward against the reference."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import functional
from bbs_kernels.rules import Absolute, All, Below, Own, Relative, TopK

from .agree import check_backward, check_forward, settle
from .problem import Problem, make, upstream
from .strategies import DTYPES

RULES = {
    "all": All(),
    "own": Own(),
    "below": Below(Absolute(0.3)),
    "below-relative": Below(Relative(0.1)),
    "topk": TopK(5, 1),
    "topk-guard": TopK(5, 1, Absolute(0.4)),
}


@pytest.fixture(params=list(DTYPES))
def dtypes(request: pytest.FixtureRequest) -> dict[str, torch.dtype]:
    dtype, w_dtype = DTYPES[request.param]
    return {"dtype": dtype, "w_dtype": w_dtype}


@pytest.fixture(params=list(RULES))
def mining(request: pytest.FixtureRequest):
    return RULES[request.param]


def check(problem: Problem) -> tuple[torch.Tensor, ...]:
    problem = settle(problem)
    out = problem.kernel()
    check_forward(problem, out, problem.oracle())
    check_backward(problem, *upstream(problem))
    return out


def test_all_rows_ignored(dtypes, mining) -> None:
    problem = make(rows=9, sizes=(5, 7), ignored=1.1, mining=mining, **dtypes)
    lse, cos_t, mined_idx, mined_cos = problem.kernel()
    assert (lse == -torch.inf).all()
    assert (cos_t == 0).all()
    assert (mined_idx == -1).all()
    assert (mined_cos == 0).all()
    dx, dw = problem.kernel_gradients(torch.ones(9), torch.ones(9))
    assert (dx == 0).all()
    assert (dw == 0).all()
    losses = functional.row_losses(lse, cos_t, 64.0)
    for reduction in ("mean", "sum"):
        assert functional.reduce_rows(losses, problem.valid, None, reduction) == 0


def test_no_rows(dtypes, mining) -> None:
    problem = make(rows=0, sizes=(5, 7), mining=mining, **dtypes)
    lse, _, mined_idx, _ = problem.kernel()
    assert lse.shape == (0,)
    assert mined_idx.shape[:2] == (0, 2)
    dx, dw = problem.kernel_gradients(torch.ones(0), torch.ones(0))
    assert dx.shape == problem.x.shape
    assert (dw == 0).all()


NOTHING = [Own(), Below(Absolute(-2.0)), Below(Relative(5.0)), TopK(0, 0), TopK(4, 9)]


@pytest.mark.parametrize("mining", NOTHING, ids=str)
def test_no_negatives(dtypes, mining) -> None:
    problem = make(rows=6, sizes=(1, 7), ignored=0.0, mining=mining, **dtypes)
    problem.labels[:] = 0
    lse, _, _, _ = problem.kernel()
    assert (lse == -torch.inf).all()
    dx, dw = problem.kernel_gradients(torch.zeros(6), torch.zeros(6))
    assert (dx == 0).all()
    assert (dw == 0).all()
    check(problem)  # with a gradient of cos_t


def test_only_class_is_an_alias_mate(dtypes, mining) -> None:
    aliases = torch.zeros(4, dtype=torch.int64)
    problem = make(rows=6, sizes=(2, 2), ignored=0.0, mining=mining, aliases=aliases, **dtypes)
    lse, _, mined_idx, _ = check(problem)
    assert (lse == -torch.inf).all()
    assert (mined_idx == -1).all()


def test_zero_rows(dtypes, mining) -> None:
    problem = make(sizes=(31, 33), mining=mining, ignored=0.0, **dtypes)
    problem.x[:5] = 0
    problem.w[problem.labels[:3]] = 0
    problem.w[40] = 0
    check(problem)
    u, t = torch.randn(2, 37, dtype=torch.float64)
    dx, dw = problem.kernel_gradients(u, t)
    assert (dx[:5] == 0).all()
    assert (dw[40] == 0).all()


@pytest.mark.parametrize("norm", [9e-13, 1.1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_zero_row_threshold(norm: float, dtype: torch.dtype) -> None:
    problem = make(rows=4, sizes=(5,), mining=Own(), ignored=0.0, dtype=dtype)
    problem.x[0] *= norm / problem.x[0].double().norm().item()
    problem.w[4] *= norm / problem.w[4].double().norm().item()
    _, cos_t, _, _ = check(problem)
    assert (cos_t[0] == 0) == (norm < 1e-12)


def test_duplicate_rows_and_classes(dtypes, mining) -> None:
    problem = make(rows=40, sizes=(20, 50, 3), copies=0.5, mining=mining, **dtypes)
    problem.x[20:] = problem.x[:20]
    problem.labels[20:] = problem.labels[:20]
    lse, cos_t, mined_idx, mined_cos = check(problem)
    for out in (lse, cos_t, mined_idx, mined_cos):
        assert torch.equal(out[:20], out[20:])


def test_all_classes_equal(dtypes) -> None:
    problem = make(rows=20, sizes=(8, 300), mining=TopK(5, 2), ignored=0.0, **dtypes)
    problem.w[:] = problem.w[:1]
    problem.labels[:] = 3
    _, _, mined_idx, _ = check(problem)
    assert (
        mined_idx[:, 1] == torch.arange(10, 15)
    ).all()  # ties: smaller index first, the two smallest left out


def test_cosine_of_one_and_minus_one(dtypes, mining) -> None:
    """Powers of two, so that +-1 comes out exactly, in every dtype."""
    depth = 16
    problem = make(rows=8, depth=depth, sizes=(6, 6), ignored=0.0, mining=mining, **dtypes)
    base = torch.ones(depth)
    base[::2] = -1
    problem.x[:] = base
    problem.x[4:] = -2 * base
    problem.w[:] = torch.outer(torch.tensor([1.0, -1.0] * 6), base)
    problem.labels[:] = torch.arange(8) % 2
    _, cos_t, _, _ = check(problem)
    assert torch.equal(cos_t.abs(), torch.ones_like(cos_t))


def test_one_row(dtypes, mining) -> None:
    check(make(rows=1, sizes=(97, 31), ignored=0.0, mining=mining, **dtypes))


@pytest.mark.parametrize("classes", [1, 47, 48, 49, 95, 97, 191, 193, 383, 385, 1025])
def test_classes_not_a_multiple_of_a_tile(classes: int, mining) -> None:
    check(make(rows=17, depth=33, sizes=(classes, 5, classes), mining=mining))


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 256, 257, 273])
def test_rows_not_a_multiple_of_a_panel(rows: int, mining) -> None:
    check(make(rows=rows, depth=9, sizes=(31, 97), mining=mining))


@pytest.mark.parametrize("depth", [1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 513])
def test_depth_not_a_multiple_of_a_vector(depth: int, mining) -> None:
    check(make(rows=17, depth=depth, sizes=(31, 97), mining=mining))


def test_one_basket(dtypes, mining) -> None:
    problem = make(sizes=(97,), mining=mining, **dtypes)
    check(problem)
    assert torch.equal(problem.kernel()[0], problem.replace(mining=Own()).kernel()[0])


@pytest.mark.parametrize("sizes", [(0, 5, 7), (5, 0, 0, 7), (5, 7, 0)])
def test_empty_basket(sizes: tuple[int, ...], dtypes, mining) -> None:
    problem = make(sizes=sizes, mining=mining, **dtypes)
    _, _, mined_idx, _ = check(problem)
    assert (mined_idx[:, [b for b, size in enumerate(sizes) if size == 0]] == -1).all()


def test_basket_smaller_than_k(dtypes) -> None:
    problem = make(sizes=(31, 3, 40), mining=TopK(10, 1), ignored=0.0, **dtypes)
    _, _, mined_idx, _ = check(problem)
    home = (problem.labels < 31) & (
        mined_idx[:, 2, 0] >= 0
    )  # rows of basket 0 that check() has not set aside
    assert home.any()
    assert ((mined_idx[home, 1] >= 0).sum(1) == 2).all()  # three classes, one left out


def test_k_is_zero(dtypes) -> None:
    problem = make(mining=TopK(0, 3), **dtypes)
    lse, cos_t, mined_idx, _ = problem.kernel()
    assert mined_idx.shape == (37, 4, 0)
    own = problem.replace(mining=Own()).kernel()
    assert torch.equal(lse, own[0])
    assert torch.equal(cos_t, own[1])


def test_k_and_skip_at_their_limit(dtypes) -> None:
    check(make(rows=9, sizes=(200, 300, 90), mining=TopK(127, 1), **dtypes))
    check(make(rows=9, sizes=(200, 300, 90), mining=TopK(1, 127), **dtypes))


def test_two_baskets_in_one_row_block(dtypes, mining) -> None:
    problem = make(rows=16, sizes=(9, 9), ignored=0.0, mining=mining, **dtypes)
    problem.labels[:] = torch.arange(16) % 2 * 9
    check(problem)


@pytest.mark.parametrize("exponent", [-11, 8, 17])
def test_huge_and_tiny_norms(exponent: int, mining) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        problem = make(sizes=(31, 33), spread=0.0, mining=mining, dtype=dtype)
        problem.x[::2] *= 10.0**exponent
        problem.w[::2] *= 10.0**exponent
        check(problem)


def test_ignore_index_may_be_a_class(dtypes, mining) -> None:
    problem = make(rows=30, sizes=(3, 31), ignored=0.0, mining=mining, ignore_index=2, **dtypes)
    lse, _, _, _ = check(problem)
    assert (lse[problem.labels == 2] == -torch.inf).all()


def test_mates_reduce_skip() -> None:
    w = torch.eye(6)[[0, 1, 0, 1, 2, 3]]
    w[2:] += 0.01 * torch.arange(4)[:, None]
    problem = Problem(
        torch.eye(6)[:1], w, torch.tensor([0]), torch.tensor([0, 2, 6]), TopK(2, 1),
        aliases=torch.tensor([7, -1, 7, -1, -1, -1]),
    )  # fmt: skip
    _, _, mined_idx, _ = check(problem)
    assert 2 not in mined_idx
    truth = torch.nn.functional.cosine_similarity(problem.x, w[3:])
    assert (
        mined_idx[0, 1].tolist() == (3 + truth.argsort(descending=True)[:2]).tolist()
    )  # nothing else skipped


def test_negative_aliases_are_no_mates(mining) -> None:
    problem = make(mining=mining, ignored=0.0)
    plain = problem.kernel()
    marked = problem.replace(aliases=torch.full((len(problem.w),), -1)).kernel()
    for a, b in zip(plain, marked, strict=True):
        assert torch.equal(a, b)
