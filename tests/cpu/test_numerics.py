"""Accuracy where losses are large, tiny, or scaled: gradients against the fp64 oracle and the eager fp32 formula.

The bounds are those of the tolerance table, on the root mean square over several problems: luck does not decide.
"""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import functional
from bbs_kernels.rules import All, Own, TopK
from support.tolerances import (
    ROUNDED_ONCE,
    TABLE,
    TIMES_EAGER,
    assert_losses,
    direction_error,
    relative_l2,
    signed_bias,
)

from .agree import check_forward, negatives, settle
from .problem import Problem, make

SEEDS = range(6)


def loss_upstream(problem: Problem, margin: float, factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(u, t) of factor * sum of the losses, in fp64: u = sigmoid(z), t = -scale * u."""
    lse, cos_t, _, _ = problem.oracle()
    u = factor * torch.sigmoid(lse - problem.scale * (cos_t - margin)).nan_to_num(0.0) * problem.valid
    return u, -problem.scale * u


def assert_accurate(problems: list[Problem], margin: float, factor: float = 1.0) -> None:
    squares = {"dx": [], "dw": []}
    for problem in problems:
        u, t = loss_upstream(problem, margin, factor)
        got, want = problem.kernel_gradients(u, t), problem.oracle_gradients(u, t)
        eager = problem.eager_gradients(u, t, negatives(problem))
        for i, name in enumerate(squares):
            assert got[i].isfinite().all()
            squares[name].append([relative_l2(got[i], want[i]) ** 2, relative_l2(eager[i], want[i]) ** 2])
    for name, pairs in squares.items():
        ours, theirs = torch.tensor(pairs).mean(0).sqrt().tolist()
        bound = max(TABLE["fp32"].floor, TIMES_EAGER * theirs)
        assert ours <= bound, f"{name}: relative L2 {ours:.3g}, eager {theirs:.3g}"


def with_loss(target: float, seed: int, **fields: object) -> tuple[Problem, float]:
    """A problem and the margin that puts its median loss at `target`."""
    problem = settle(
        make(rows=40, depth=64, sizes=(97, 111, 200), spread=0.3, seed=seed, ignored=0.0, **fields)
    )
    lse, cos_t, _, _ = problem.oracle()
    z = torch.tensor(target, dtype=torch.float64).expm1().log()  # softplus(z) = target
    rows = problem.valid & lse.isfinite()
    return problem, float((z - (lse - problem.scale * cos_t)[rows].median()) / problem.scale)


@pytest.mark.parametrize("mining", [All(), Own(), TopK(16, 1)], ids=str)
@pytest.mark.parametrize("loss", [40.0, 10.0, 1.0, 1e-2, 1e-4, 1e-6])
def test_losses_from_40_to_1e_6(loss: float, mining) -> None:
    problems, margin = zip(*(with_loss(loss, seed, mining=mining) for seed in SEEDS), strict=True)
    for problem in problems:
        check_forward(problem, problem.kernel(), problem.oracle())
    assert_accurate(list(problems), sum(margin) / len(margin))


@pytest.mark.parametrize("loss", [40.0, 1.0, 1e-2, 1e-4, 1e-6])
def test_loss_within_its_tolerance(loss: float) -> None:
    for seed in SEEDS:
        problem, margin = with_loss(loss, seed)
        lse, cos_t, _, _ = problem.kernel()
        got = functional.row_losses(lse, cos_t - margin, problem.scale)
        want_lse, want_cos_t, _, _ = problem.oracle()
        z = want_lse - problem.scale * (want_cos_t - margin)
        want = torch.logaddexp(torch.zeros_like(z), z)
        assert_losses(got[problem.valid], want[problem.valid], problem.scale)


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e6])
@pytest.mark.parametrize("loss", [10.0, 1e-3])
def test_upstream_gradients_of_any_size(factor: float, loss: float) -> None:
    problems, margin = zip(*(with_loss(loss, seed) for seed in SEEDS), strict=True)
    assert_accurate(list(problems), margin[0], factor)


def test_upstream_gradient_enters_linearly_by_powers_of_two() -> None:
    problem, _ = with_loss(1.0, 0)
    u, t = torch.randn(2, 40)
    dx, dw = problem.kernel_gradients(u, t)
    scaled = problem.kernel_gradients(u * 2.0**16, t * 2.0**16)
    assert torch.equal(scaled[0], dx * 2.0**16)
    assert torch.equal(scaled[1], dw * 2.0**16)


@pytest.mark.parametrize("scale", [1.0, 30.1, 64.1, 100.0, 100.1, 128.0])
def test_scales(scale: float) -> None:
    """64.1 and the like have no exact fp32: forward and backward must mean the same number by them."""
    for noise in (0.2, 0.7):
        fields = {"noise": noise, "spread": 0.3, "ignored": 0.0, "mining": All(), "scale": scale}
        problems = [settle(make(rows=40, depth=128, sizes=(700,), seed=seed, **fields)) for seed in SEEDS]
        assert_accurate(problems, 0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-8, 1.0, 65536.0, 1e6])
def test_fp32_centres_of_16_bit_embeddings_lose_nothing(dtype: torch.dtype, factor: float) -> None:
    """dW of fp32 centres is fp32: no 16-bit rounding enters, whatever a GradScaler multiplies."""
    for seed in SEEDS:
        problem, margin = with_loss(1.0, seed, dtype=dtype, w_dtype=torch.float32)
        u, t = loss_upstream(problem, margin, factor)
        _, dw = problem.kernel_gradients(u, t, "w")
        _, want = problem.oracle_gradients(u, t)
        _, eager = problem.eager_gradients(u, t, negatives(problem))
        assert dw.dtype == torch.float32
        assert relative_l2(dw, want) <= max(TABLE["fp32"].floor, TIMES_EAGER * relative_l2(eager, want))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_gradients_have_no_bias(dtype: torch.dtype) -> None:
    """Aggregate guards: direction and signed bias, which a few outliers would hide."""
    problem, margin = with_loss(1.0, 0, dtype=dtype)
    u, t = loss_upstream(problem, margin)
    for got, want in zip(problem.kernel_gradients(u, t), problem.oracle_gradients(u, t), strict=True):
        assert direction_error(got, want) < ROUNDED_ONCE.direction
        assert abs(signed_bias(got, want)) < ROUNDED_ONCE.bias


def test_cosine_of_exactly_one_has_finite_gradients() -> None:
    """x equal to its centre: eager acos would be infinite here; the core has no acos and must stay exact."""
    problem = make(rows=12, depth=64, sizes=(12, 12), noise=0.0, spread=0.0, copies=0.0, ignored=0.0)
    problem.labels.remainder_(12)
    problem.x.copy_(problem.w[problem.labels])
    problem.w[12:] = -problem.w[:12]
    _, cos_t, _, _ = problem.kernel()
    assert (cos_t - 1).abs().max() < 4e-7
    u, t = torch.ones(2, 12)
    for got, want in zip(problem.kernel_gradients(u, t), problem.oracle_gradients(u, t), strict=True):
        assert relative_l2(got, want) < TABLE["fp32"].floor
