"""Random problems: every layout, rule, guard, alias and planted trouble that the CPU's property tests draw."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from cpu.agree import check_forward, settle
from cpu.problem import Problem
from cpu.strategies import problems

from .machine import forward

pytestmark = [pytest.mark.ptx, pytest.mark.slow]
DTYPES = ("fp32", "fp16", "bf16", "fp16-fp32", "bf16-fp32")


@settings(
    max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(problems(DTYPES))
def test_forward(problem: Problem) -> None:
    problem = settle(problem)
    check_forward(problem, forward(problem, blocks=3), problem.oracle())
