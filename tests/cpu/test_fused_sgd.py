"""cos_lse_backward_sgd against cos_lse_backward followed by torch.optim.SGD."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.rules import All, Own, TopK
from support.tolerances import PRECISION, TABLE, relative_l2

from .problem import Problem, make
from .strategies import layout
from .test_registration import OPS, op_arguments

SETTINGS = [
    {"lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False},
    {"lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.01, "nesterov": False},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.01, "nesterov": False},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01, "nesterov": False},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.01, "nesterov": True},
]


def fused(problem: Problem, w, buffer, first: bool, u, t, settings: dict, class_index=None) -> torch.Tensor:
    arguments = op_arguments(problem.replace(w=w), class_index=class_index)
    out = OPS.cos_lse(*arguments)
    x, _, labels, offsets, guard, aliases, scale, rule, _, _, kind, value, ignore, index, _ = arguments
    return OPS.cos_lse_backward_sgd(
        u, t, x, w, labels, offsets, *out, guard, aliases, scale, rule, kind, value, ignore, index, True, buffer, first,
        settings["lr"], settings["momentum"], settings["dampening"], settings["weight_decay"], settings["nesterov"],
    )  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("mining", [Own(), TopK(2, 1), All()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["contiguous", "transposed"])
def test_three_steps(settings: dict, mining, dtype: torch.dtype, kind: str) -> None:
    """One basket has no row at all: its classes still decay and still have momentum."""
    problem = make(rows=20, depth=31, sizes=(200, 300), mining=mining, dtype=dtype, spread=0.1)
    problem.labels.remainder_(200)
    parameter = torch.nn.Parameter(problem.w.clone())
    optimiser = torch.optim.SGD([parameter], foreach=False, **settings)
    w, buffer = layout(problem.w.clone(), kind), None
    if settings["momentum"]:
        buffer = layout(torch.full_like(problem.w, torch.nan), kind)  # the first step must not read it
    g = torch.Generator().manual_seed(5)
    for step in range(3):
        u, t = torch.randn(2, 20, generator=g, dtype=dtype)
        want_dx, parameter.grad = problem.replace(w=parameter.detach()).kernel_gradients(u, t)
        optimiser.step()
        dx = fused(problem, w, buffer, step == 0, u, t, settings)
        bound = TABLE[PRECISION[dtype]].floor
        assert relative_l2(dx, want_dx) <= bound
        assert relative_l2(w, parameter.detach()) <= bound
        if buffer is not None:
            kept = optimiser.state[parameter]["momentum_buffer"]
            assert relative_l2(buffer, kept) <= bound


def test_classes_that_are_not_sampled_stay() -> None:
    problem = make(rows=20, sizes=(200, 300), ignored=0.0, spread=0.1)
    index = torch.cat([problem.labels, torch.arange(0, 500, 7)]).unique()
    w, buffer = problem.w.clone(), torch.randn_like(problem.w)
    before = buffer.clone()
    fused(problem, w, buffer, False, *torch.randn(2, 20), SETTINGS[2], index)
    others = torch.ones(500, dtype=torch.bool)
    others[index] = False
    assert torch.equal(w[others], problem.w[others])
    assert torch.equal(buffer[others], before[others])
    assert (w[index] != problem.w[index]).any(1).all()


def test_threads_change_nothing() -> None:
    problem = make(rows=40, depth=16, sizes=(450, 300))
    threads = torch.get_num_threads()
    results = []
    u, t = torch.randn(2, 40)
    for count in (1, 3, 4):
        torch.set_num_threads(count)
        w, buffer = problem.w.clone(), torch.ones_like(problem.w)
        results.append((fused(problem, w, buffer, False, u, t, SETTINGS[4]), w, buffer))
    torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("w", "buffer", "message"),
    [
        (torch.float16, None, "w: expected float32 or float64, got float16"),
        (torch.float32, None, "momentum_buffer: expected a tensor exactly when"),
    ],
)
def test_refused(w: torch.dtype, buffer, message: str) -> None:
    problem = make(rows=5, dtype=w)
    with pytest.raises(RuntimeError, match=message):
        fused(problem, problem.w, buffer, True, torch.zeros(5), torch.zeros(5), SETTINGS[2])
