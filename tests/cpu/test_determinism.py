"""Bit for bit the same over runs, thread counts and stash budgets; every instruction set agrees with the oracle."""

from __future__ import annotations

import hashlib
import platform

import pytest
import torch

from bbs_kernels.rules import Absolute, All, Below, Own, TopK

from . import child
from .problem import Problem, make

RULES = [All(), Own(), Below(Absolute(0.2)), TopK(7, 1), TopK(3, 1, Absolute(0.3))]


def everything(problem: Problem, **more: object) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(3)
    u, t = torch.randn(2, len(problem.labels), generator=g)
    return (*problem.kernel(**more), *problem.kernel_gradients(u, t, **more))


def digest(tensors: tuple[torch.Tensor, ...]) -> str:
    raw = b"".join(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for t in tensors)
    return hashlib.sha256(raw).hexdigest()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_threads_and_runs(mining, dtype: torch.dtype, threads) -> None:
    problem = make(rows=70, depth=40, sizes=(450, 333, 0, 1, 260), mining=mining, dtype=dtype)
    threads(1)
    want = digest(everything(problem))
    for count in (1, 2, 3, 4, 7, 2):
        threads(count)
        assert digest(everything(problem)) == want


@pytest.mark.slow
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_threads_and_runs_thorough(mining, threads) -> None:
    problem = make(rows=300, depth=128, sizes=(4500, 3330, 2600), mining=mining)
    threads(1)
    want = digest(everything(problem))
    for count in (2, 3, 4, 5, 6, 7, 8) * 4:
        threads(count)
        assert digest(everything(problem)) == want


@pytest.mark.parametrize("mining", RULES, ids=str)
def test_stash_budget_changes_nothing(mining) -> None:
    problem = make(rows=70, depth=40, sizes=(200, 1, 0, 333), mining=mining)
    want = digest(everything(problem, stash_bytes=0))
    for budget in (1, 4, 1000, 12345, 100_000, 32 << 20):
        assert digest(everything(problem, stash_bytes=budget)) == want


def test_which_gradients_are_wanted_changes_nothing() -> None:
    problem = make(rows=70, depth=40, sizes=(200, 333))
    u, t = torch.randn(2, 70)
    dx, dw = problem.kernel_gradients(u, t)
    assert torch.equal(problem.kernel_gradients(u, t, "x")[0], dx)
    assert torch.equal(problem.kernel_gradients(u, t, "w")[1], dw)


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 37])
def test_every_output_is_written(mining, rows: int) -> None:
    """In deterministic mode torch fills new tensors with NaN (integers with their maximum), so what is left shows."""
    problem = make(rows=rows, sizes=(97, 31, 0, 111), mining=mining)
    torch.use_deterministic_algorithms(True)
    try:
        outputs = everything(problem)
    finally:
        torch.use_deterministic_algorithms(False)
    for output in outputs:
        if output.is_floating_point():
            assert not output.isnan().any()
        else:
            assert (output < len(problem.w)).all()


ISA_CHILD = """
import torch
from cpu.problem import make, upstream
from cpu.agree import check_forward, check_backward, settle
from cpu.test_determinism import RULES, digest, everything
digests = []
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    for mining in RULES:
        problem = settle(make(rows=37, depth=31, sizes=(450, 33, 1), mining=mining, dtype=dtype))
        check_forward(problem, problem.kernel(), problem.oracle())
        check_backward(problem, *upstream(problem))
        for threads in (1, 3):
            torch.set_num_threads(threads)
            digests.append(digest(everything(problem)))
assert digests[::2] == digests[1::2]
print("ok")
"""


def processor_has(*flags: str) -> bool:
    try:
        with open("/proc/cpuinfo") as f:
            present = set(f.read().split())
    except OSError:
        return False
    return set(flags) <= present


BASELINE = "neon" if platform.machine() in ("aarch64", "arm64") else "generic"
ISAS = {BASELINE: (), "avx2": ("avx2", "fma"), "avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl")}


@pytest.mark.parametrize("isa", list(ISAS))
def test_instruction_set_agrees_with_the_oracle(isa: str) -> None:
    if isa != BASELINE and (platform.machine() not in ("x86_64", "AMD64") or not processor_has(*ISAS[isa])):
        pytest.skip(f"this processor has no {isa}")
    assert child.run(ISA_CHILD, BBS_CPU_ISA=isa, OMP_NUM_THREADS="2") == "ok"


def test_unknown_instruction_set_is_an_error() -> None:
    code = """
from cpu.problem import make
try:
    make().kernel()
except RuntimeError as error:
    print(error)
"""
    assert f"BBS_CPU_ISA = 'sse9': this processor and build offer {BASELINE}" in child.run(
        code, BBS_CPU_ISA="sse9"
    )
