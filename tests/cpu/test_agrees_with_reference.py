"""Forward and backward against the fp64 reference, over everything that a call can vary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from .agree import check_forward, check_gradient, gradient_floors, settle
from .problem import Problem, upstream
from .strategies import problems

THOROUGH = settings(max_examples=600, suppress_health_check=list(HealthCheck))


def forward_agrees(problem: Problem) -> None:
    problem = settle(problem)
    check_forward(problem, problem.kernel(), problem.oracle())


def backward_agrees(problem: Problem, wrt: str) -> None:
    problem = settle(problem)
    event(type(problem.mining).__name__)
    u, t = upstream(problem)
    dx, dw = problem.kernel_gradients(u, t, wrt)
    want_dx, want_dw = problem.oracle_gradients(u, t)
    eager_dx, eager_dw = problem.eager_gradients(u, t)
    floor_x, floor_w = gradient_floors(problem, u, t)
    for name, got, want, eager, floor, like in (
        ("x", dx, want_dx, eager_dx, floor_x, problem.x),
        ("w", dw, want_dw, eager_dw, floor_w, problem.w),
    ):
        if name not in wrt:
            assert got is None
            continue
        assert got.dtype == like.dtype
        assert got.shape == like.shape
        check_gradient(f"d{name}", got, want, eager, floor)
    if dx is not None:
        assert (dx[~problem.valid] == 0).all()


@given(problems())
def test_forward(problem: Problem) -> None:
    forward_agrees(problem)


@given(problems(), st.sampled_from(["xw", "xw", "x", "w"]))
def test_backward(problem: Problem, wrt: str) -> None:
    backward_agrees(problem, wrt)


@pytest.mark.slow
@THOROUGH
@given(problems())
def test_forward_thorough(problem: Problem) -> None:
    forward_agrees(problem)


@pytest.mark.slow
@THOROUGH
@given(problems(), st.sampled_from(["xw", "xw", "x", "w"]))
def test_backward_thorough(problem: Problem, wrt: str) -> None:
    backward_agrees(problem, wrt)


@given(problems(("fp32", "fp64")))
def test_no_input_is_changed(problem: Problem) -> None:
    before = [None if v is None else v.clone() for v in (problem.x, problem.w, problem.labels, problem.aliases, problem.ema)]
    u, t = torch.ones(2, len(problem.labels))
    problem.kernel_gradients(u, t)
    for old, new in zip(before, (problem.x, problem.w, problem.labels, problem.aliases, problem.ema), strict=True):
        assert old is None or torch.equal(old, new)
