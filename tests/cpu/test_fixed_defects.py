"""Defects that were found once, each by name."""

from __future__ import annotations

import math

import pytest
import torch

from bbs_kernels import functional, reference
from bbs_kernels.rules import Absolute, All, Below, Own, TopK
from bbs_kernels.validate import LARGEST_SCALE

from .problem import Problem, make
from .test_fused_sgd import SETTINGS, fused
from .test_registration import OPS, op_arguments


def test_below_lse_minus_inf_gives_nan_gradients() -> None:
    """scale * (-inf) - (-inf) is NaN, and reached dX and every class of the other baskets."""
    problem = make(rows=3, depth=8, sizes=(1, 4), ignored=0.0, mining=Below(Absolute(-2.0)))
    problem.labels.copy_(torch.tensor([0, 0, 3]))
    lse, _, _, _ = problem.kernel()
    assert lse.isinf().tolist() == [True, True, False]
    dx, dw = problem.kernel_gradients(torch.zeros(3), torch.ones(3))
    assert dx.isfinite().all()
    assert dw.isfinite().all()


def test_negative_zero_from_fma() -> None:
    """fma(total, 1/norm, +0) keeps the sign of a product that underflows."""
    w = torch.tensor([[0.0, 1.0], [-1e-40, 1e10], [0.0, 1.0]])
    problem = Problem(torch.tensor([[1.0, 0.0]]), w, torch.tensor([0]), torch.tensor([0, 1, 3]), TopK(2, 0))
    _, _, idx, cos = problem.kernel()
    assert idx[0, 1].tolist() == [1, 2]
    assert not cos.signbit().any()


def test_fused_sgd_unread_tiles_share_a_gradient() -> None:
    """The step overwrites its gradient, and the next class of a tile that nobody reads started from it."""
    problem = make(rows=5, depth=8, sizes=(200, 200), mining=Own(), copies=0.0)
    problem.labels.remainder_(200)
    w = problem.w.clone()
    fused(problem, w, None, True, torch.zeros(5), torch.zeros(5), SETTINGS[1])
    assert torch.allclose(w, problem.w * (1 - 0.1 * 0.01), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e10, 1e20, 1e38, 1e300, math.nextafter(1e6, 2e6)])
def test_scale_of_1e10_gave_nan_gradients(scale: float) -> None:
    """One ulp of an fp32 logit is 1024 there, more than exp can take: such scales are refused, by the op too."""
    problem = make(rows=9, depth=8, sizes=(40, 50), mining=TopK(5, 1), scale=scale)
    with pytest.raises(ValueError, match=r"scale: expected a number above 0, up to 1e\+06, got .*"):
        problem.kernel()
    with pytest.raises(RuntimeError, match=r"scale: expected a number above 0, up to 1e\+06, got .*"):
        OPS.cos_lse(*op_arguments(problem.replace(mining=Own())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_largest_scale_has_finite_gradients(dtype: torch.dtype) -> None:
    problem = make(rows=9, depth=8, sizes=(40, 50), dtype=dtype, mining=TopK(5, 1), scale=LARGEST_SCALE)
    u = torch.ones(9, dtype=dtype)
    for gradient in problem.kernel_gradients(u, -LARGEST_SCALE * u):
        assert gradient.isfinite().all()


def test_scale_not_representable_in_fp32() -> None:
    """Forward meant 64.1, backward float(64.1): all weights of a row were off by one common factor."""
    rounded = float(torch.tensor(64.1, dtype=torch.float32))
    assert rounded != 64.1
    gradients = []
    for scale in (64.1, rounded):
        problem = make(rows=64, depth=512, sizes=(1025,), spread=0.3, ignored=0.0, mining=All(), scale=scale)
        u = torch.ones(64, dtype=torch.float64)
        gradients.append(problem.kernel_gradients(u, 0 * u))
    for got, want in zip(*gradients, strict=True):
        assert torch.equal(got, want)


def test_stash_has_uninitialised_values() -> None:
    """What the budget leaves over at its end was never written: an output that differs from run to run."""
    problem = make(rows=9, depth=5, sizes=(6, 7, 9), dtype=torch.float64, mining=Own())
    problem.labels.remainder_(6)
    torch.use_deterministic_algorithms(True)  # new tensors are filled with NaN
    try:
        for budget in (1000, 1 << 20):
            stash = OPS.cos_lse(*op_arguments(problem, budget))[4]
            assert len(stash) > 0
            assert not stash.isnan().any()
    finally:
        torch.use_deterministic_algorithms(False)


def test_reference_dx_is_always_nan() -> None:
    """where(broken, x.sum() * nan, lse): the branch not taken has a gradient of 0, and 0 * nan is NaN."""
    problem = make(rows=4, ignored=0.0)
    x = problem.x.double().requires_grad_()
    lse, _, _, _ = reference.cos_lse(
        x, problem.w.double(), problem.labels, problem.offsets, scale=64.0, mining=All()
    )
    (dx,) = torch.autograd.grad(lse.sum(), x)
    assert dx.isfinite().all()


def test_reference_breaks_ties_of_a_transposed_w() -> None:
    """A sum down strided columns adds up the last of them in another order, and copies no longer tied."""
    for depth in (15, 16, 31, 64):
        w = torch.randn(depth, dtype=torch.float64).expand(97, depth).t().contiguous().t()
        problem = Problem(
            torch.randn(3, depth, dtype=torch.float64), w, torch.zeros(3, dtype=torch.int64),
            torch.tensor([0, 1, 97]), TopK(90, 0),
        )  # fmt: skip
        _, _, idx, cos = reference.cos_lse(
            problem.x, w, problem.labels, problem.offsets, scale=problem.scale, mining=problem.mining
        )
        assert torch.equal(idx[:, 1], torch.arange(1, 91).expand(3, -1))
        assert torch.equal(cos[:, 1], cos[:, 1, :1].expand(-1, 90))


def test_softplus_threshold_in_fp64() -> None:
    """F.softplus is the identity above 20 by default: an error of 2e-9 where fp64 has 16 digits."""
    z = torch.linspace(15, 45, 200, dtype=torch.float64, requires_grad=True)
    losses = functional.row_losses(z, torch.zeros_like(z), 1.0)
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    assert torch.allclose(losses, torch.logaddexp(torch.zeros_like(z), z), rtol=1e-15, atol=0)
    assert torch.allclose(gradient, torch.sigmoid(z), rtol=1e-15, atol=0)
