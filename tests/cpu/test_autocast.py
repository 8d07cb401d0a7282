"""Under autocast X is cast as F.linear would cast it, W is not; results are fp32, gradients have their own dtypes."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.rules import Ema, TopK

from .problem import make

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("half", HALVES)
def test_embeddings_are_cast_and_centres_are_not(half: torch.dtype) -> None:
    problem = make()
    x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
    with torch.autocast("cpu", dtype=half):
        out = problem.replace(x=x, w=w).kernel()
    want = problem.replace(x=problem.x.to(half)).kernel()
    for a, b in zip(out, want, strict=True):
        assert torch.equal(a, b)
    assert [t.dtype for t in out] == [torch.float32, torch.float32, torch.int64, torch.float32]
    u, t = torch.randn(2, 37)
    torch.autograd.backward(out[:2], [u, t])
    want_dx, want_dw = problem.replace(x=problem.x.to(half)).kernel_gradients(u, t)
    assert x.grad.dtype == w.grad.dtype == torch.float32
    assert torch.equal(x.grad, want_dx.float())
    assert torch.equal(w.grad, want_dw)


@pytest.mark.parametrize("half", HALVES)
def test_ema_guard(half: torch.dtype) -> None:
    problem = make(sizes=(30, 40), mining=TopK(3, 1, Ema(0.5)), ema=torch.full((2,), torch.inf))
    with torch.autocast("cpu", dtype=half):
        out = problem.kernel(training=True)
    other = problem.replace(x=problem.x.to(half), ema=torch.full((2,), torch.inf))
    for a, b in zip(out, other.kernel(training=True), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(problem.ema, other.ema)


def test_fp64_is_left_alone() -> None:
    problem = make(dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = problem.kernel()
    for a, b in zip(out, problem.kernel(), strict=True):
        assert torch.equal(a, b)


def test_disabled_autocast_changes_nothing() -> None:
    problem = make()
    with torch.autocast("cpu", enabled=False):
        out = problem.kernel()
    assert torch.equal(out[0], problem.kernel()[0])


def test_backward_under_autocast() -> None:
    problem = make()
    u, t = torch.randn(2, 37)
    want = problem.kernel_gradients(u, t)
    x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
    lse, cos_t, _, _ = problem.replace(x=x, w=w).kernel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.autograd.backward([lse, cos_t], [u, t])
    assert torch.equal(x.grad, want[0])
    assert torch.equal(w.grad, want[1])
