"""Forward and backward against the fp64 reference, over everything that a call can vary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from .agree import check_backward, check_forward, settle
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
    check_backward(problem, u, t, wrt)


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
    inputs = (problem.x, problem.w, problem.labels, problem.aliases, problem.ema)
    before = [None if v is None else v.clone() for v in inputs]
    u, t = torch.ones(2, len(problem.labels))
    problem.kernel_gradients(u, t)
    for old, new in zip(before, inputs, strict=True):
        assert old is None or torch.equal(old, new)
