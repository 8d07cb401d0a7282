"""Is every barrier and wait needed, and would a missing one be noticed?

Each is taken out of a copy of nvcc's PTX in turn. The machine finds races and early reads whatever the schedule, so one
run per copy is enough. A copy that still gives the right result without a complaint is a survivor: the barrier is
superfluous, or no test reaches it.
"""

from __future__ import annotations

import re

import pytest

from bbs_kernels.rules import Own, Rule, TopK
from cpu.agree import check_forward, settle
from cpu.problem import Problem, make

from .machine import ELEMENT, forward, product_of, ptx_text, ptxvm, sweep_of

pytestmark = pytest.mark.ptx

WAIT = re.compile(r"^\s*(?:bar\.sync|cp\.async\.wait_group|cp\.async\.commit_group)\b.*;\s*$")
VOTE = re.compile(r"^\s*bar\.red\.or\.pred\s+(%p\d+),\s*0,\s*(%p\d+);\s*$")
ENTRY = re.compile(r"\.entry \w*?\d+([a-z_]+_kernel)")


def mutants(text: str) -> list[tuple[str, str]]:
    """(kernel and instruction, text without it); a voting barrier becomes each thread's own vote."""
    lines = text.splitlines()
    found, kernel = [], ""
    for n, line in enumerate(lines):
        if entry := ENTRY.search(line):
            kernel = entry[1]
        vote = VOTE.match(line)
        if not vote and not WAIT.match(line):
            continue
        instead = f"mov.pred {vote[1]}, {vote[2]};" if vote else ""
        found.append((f"{kernel}:{n + 1} {line.strip()}", "\n".join([*lines[:n], instead, *lines[n + 1 :]])))
    return found


def problem_of(dtype: str, rule: Rule, rows: int, sizes: tuple[int, ...]) -> Problem:
    import torch

    x, w = {"fp32": (torch.float32,) * 2, "bf16": (torch.bfloat16,) * 2,
            "bf16_fp32w": (torch.bfloat16, torch.float32)}[dtype]  # fmt: skip
    depth = 8 if rows > 256 else 200  # more steps than the ring has stages
    return settle(make(rows=rows, depth=depth, sizes=sizes, dtype=x, w_dtype=w, mining=rule))


def survivors(problem: Problem, kernels: str) -> list[str]:
    want = problem.oracle()
    check_forward(problem, forward(problem), want)
    x, w = problem.x.dtype, problem.w.dtype
    alive = []
    for name, text in mutants(ptx_text(product_of(x, w), ELEMENT[x], "AsyncRows", sweep_of(problem))):
        if not re.match(kernels, name):
            continue
        try:
            check_forward(problem, forward(problem, text=text), want)
        except (ptxvm.PTXError, AssertionError):
            continue
        alive.append(name)
    return alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rule"),
    [("bf16", TopK(3, 1)), ("fp32", Own()), ("bf16_fp32w", Own())],
    ids=["bf16", "fp32", "mixed"],
)
def test_every_wait_of_the_sweep_is_needed(dtype: str, rule: Rule) -> None:
    problem = problem_of(dtype, rule, rows=20, sizes=(150, 140))
    kernels = "target_cos_kernel|forward_kernel" + ("|merge_kernel" if problem.mining != Own() else "")
    assert survivors(problem, kernels) == []


@pytest.mark.slow
def test_every_wait_of_the_row_order_is_needed() -> None:
    """More rows than one block of it reads at a time."""
    assert survivors(problem_of("fp32", Own(), rows=300, sizes=(9, 5)), "row_order_kernel") == []
