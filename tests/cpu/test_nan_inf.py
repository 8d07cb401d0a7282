"""NaN and Inf: a row that touches one is NaN, everything else keeps its bits."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import functional
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, TopK

from .problem import Problem, make

RULES = [All(), Own(), Below(Absolute(0.3)), TopK(3, 1), TopK(0, 0), TopK(3, 1, Absolute(0.2))]
BAD = [float("nan"), float("inf"), float("-inf"), 1e25]  # the last: its square overflows fp32


def reads_others(mining) -> bool:
    return not isinstance(mining, Own) and mining != TopK(0, 0)


def gradients(problem: Problem, bad_rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As the loss gives them: an upstream gradient of NaN exactly where lse is NaN."""
    u = torch.where(bad_rows, torch.nan, 1.0)
    return problem.kernel_gradients(u, -u)


def check_rows(problem: Problem, clean: Problem, bad_rows: torch.Tensor) -> None:
    got, want = problem.kernel(), clean.kernel()
    assert got[0][bad_rows].isnan().all()
    assert (got[2][bad_rows] == -1).all()
    assert (got[3][bad_rows] == 0).all()
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a[~bad_rows], b[~bad_rows])
    dx, _ = gradients(problem, bad_rows)
    want_dx, _ = clean.kernel_gradients(torch.ones(len(bad_rows)), -torch.ones(len(bad_rows)))
    assert dx[bad_rows].isnan().all()
    assert torch.equal(dx[~bad_rows], want_dx[~bad_rows])


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bad_embedding(mining, bad: float, dtype: torch.dtype) -> None:
    clean = make(rows=37, sizes=(31, 60), dtype=dtype, mining=mining, ignored=0.0)
    problem = clean.replace(x=clean.x.clone())
    problem.x[4, 7] = bad
    rows = torch.arange(37) == 4
    check_rows(problem, clean, rows)
    _, dw = gradients(problem, rows)
    home = 0 if problem.labels[4] < 31 else 1
    touched = torch.arange(91).ge(31).long() == home
    if reads_others(mining):
        touched[:] = True
    assert not dw[~touched].isnan().any()


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bad_centre(mining, bad: float, dtype: torch.dtype) -> None:
    clean = make(rows=37, sizes=(31, 60), dtype=dtype, mining=mining, ignored=0.0)
    problem = clean.replace(w=clean.w.clone())
    problem.w[40, 3] = bad
    rows = torch.ones(37, dtype=torch.bool) if reads_others(mining) else clean.labels >= 31
    check_rows(problem, clean, rows)
    if not reads_others(mining):
        _, dw = gradients(problem, rows)
        assert not dw[:31].isnan().any()


@pytest.mark.parametrize("mining", RULES, ids=str)
def test_bad_target_centre(mining) -> None:
    problem = make(rows=20, sizes=(31, 60), mining=mining, ignored=0.0)
    problem.w[problem.labels[0]] = torch.nan
    lse, cos_t, _, _ = problem.kernel()
    assert lse[0].isnan()
    assert cos_t[0].isnan()


@pytest.mark.parametrize("mining", [All(), Own(), TopK(3, 1), Below(Absolute(0.3))], ids=str)
@pytest.mark.parametrize("where", ["own", "other"])
def test_alias_mate_that_is_nan_is_still_touched(mining, where: str) -> None:
    aliases = torch.full((20,), -1)
    mate = 3 if where == "own" else 13
    aliases[[0, mate]] = 5
    problem = make(rows=4, sizes=(10, 10), mining=mining, ignored=0.0, aliases=aliases)
    problem.labels[:] = 0
    problem.w[mate] = torch.nan
    touched = where == "own" or reads_others(mining)
    assert problem.kernel()[0].isnan().all() == touched
    assert problem.oracle()[0].isnan().all() == touched


def test_ignored_row_may_be_nan() -> None:
    problem = make(rows=9, ignored=0.0)
    problem.x[2] = torch.nan
    problem.labels[2] = -1
    lse, cos_t, _, _ = problem.kernel()
    assert not lse.isnan().any()
    dx, dw = problem.kernel_gradients(torch.ones(9), torch.ones(9))
    assert (dx[2] == 0).all()
    assert not dw.isnan().any()
    assert cos_t[2] == 0


def test_centre_of_a_basket_nobody_reads_may_be_nan() -> None:
    problem = make(rows=9, sizes=(10, 10), mining=Own(), ignored=0.0)
    problem.labels.remainder_(10)
    problem.w[15] = torch.nan
    assert not problem.kernel()[0].isnan().any()
    dx, dw = problem.kernel_gradients(torch.ones(9), torch.ones(9))
    assert not dx.isnan().any()
    assert (dw[10:] == 0).all()


@pytest.mark.parametrize("mining", [TopK(3, 1, Ema(0.5)), Below(Ema(0.5)), TopK(0, 0, Ema(0.5))], ids=str)
def test_guard_that_is_nan(mining) -> None:
    clean = make(rows=20, sizes=(10, 30), mining=mining, ignored=0.0, ema=torch.tensor([0.5, 0.6]))
    problem = clean.replace(ema=torch.tensor([0.5, torch.nan]))
    check_rows(problem, clean, clean.labels >= 10)


def test_guard_that_is_infinite() -> None:
    """A basket never seen has mu = +inf: nothing is left out."""
    problem = make(rows=20, sizes=(10, 30), mining=TopK(3, 1, Ema(0.5)), ema=torch.full((2,), torch.inf))
    for a, b in zip(problem.kernel(), problem.replace(mining=TopK(3, 1)).kernel(), strict=True):
        assert torch.equal(a, b)


def test_nan_row_does_not_reach_the_other_losses() -> None:
    problem = make(rows=9, sizes=(10, 10), ignored=0.0)
    problem.x[2] = torch.nan
    x = problem.x.requires_grad_()
    lse, cos_t, _, _ = problem.kernel()
    losses = functional.row_losses(lse, cos_t - 0.3, 64.0)
    assert losses.isnan().sum() == 1
    (dx,) = torch.autograd.grad(losses.sum(), x)
    assert dx.isnan().any(1).nonzero().flatten().tolist() == [2]
