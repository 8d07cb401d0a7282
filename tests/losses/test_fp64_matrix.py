"""An fp64 head against the reference to nine digits: every rule with every margin, reduction, weight and alias."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import basket_softmax as bs
from bbs_kernels import reference
from cpu.problem import Problem, make

SIZES = (31, 0, 17, 1, 48)
WIDTH = 11
RULES = [
    bs.All(),
    bs.Own(),
    bs.Below(bs.Absolute(0.2)),
    bs.TopK(5, 1),
    bs.TopK(5, 1, bs.Relative(0.1)),
    bs.Below(bs.Ema(0.5)),
]
MARGINS = [bs.ArcFace(0.4), bs.CosFace(0.3), bs.CombinedMargin(1.1, 0.2, 0.1), bs.AdaFace(0.4)]
MEANS = torch.tensor([0.6, torch.inf, 0.3, -0.2, torch.inf], dtype=torch.float64)


def data(**options: Any) -> Problem:
    """No copied centres: parallel ones tie to the last digit, and then either of them may be mined."""
    return make(
        rows=29, depth=WIDTH, sizes=SIZES, dtype=torch.float64, spread=0.3, noise=1.0, copies=0.0, seed=2, **options
    )  # fmt: skip


@pytest.mark.parametrize("margin", MARGINS, ids=lambda margin: type(margin).__name__)
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_value_and_gradients(mining, margin) -> None:
    for reduction, weighted, mates, ignored in itertools.product(
        ("mean", "sum", "none"), (False, True), (False, True), (0.0, 0.2)
    ):
        problem = data(mates=mates, ignored=ignored)
        head = bs.BasketSoftmaxLoss(
            SIZES, WIDTH, margin=margin, scale=16.0, mining=mining, reduction=reduction, aliases=problem.aliases,
            dtype=torch.float64,
        ).eval()  # fmt: skip
        head.load_full_weight(problem.w)
        if "ema" in head._buffers:
            head.ema.copy_(MEANS)
        weight = torch.linspace(0.0, 2.0, 29, dtype=torch.float64) if weighted else None
        upstream = (
            torch.linspace(-1.0, 1.0, 29, dtype=torch.float64) if reduction == "none" else torch.tensor(0.7)
        )

        x = problem.x.clone().requires_grad_()
        got = head(x, problem.labels, sample_weight=weight)
        got_gradients = torch.autograd.grad((got * upstream).sum(), (x, head.weight))

        x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
        want = reference.basket_softmax(
            x, w, problem.labels, problem.offsets, margin=margin, scale=16.0, mining=mining, reduction=reduction,
            aliases=problem.aliases, sample_weight=weight, ema=MEANS,
        )  # fmt: skip
        want_gradients = torch.autograd.grad((want * upstream).sum(), (x, w))
        where = f"{reduction}, weighted {weighted}, aliases {mates}, ignored {ignored}"
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12, msg=lambda m, c=where: f"{c}: {m}")
        for a, b in zip(got_gradients, want_gradients, strict=True):
            assert float((a - b).norm()) <= 1e-9 * float(b.norm()), where


def test_the_data_separates_the_rules_and_the_margins() -> None:
    """Otherwise the test above would compare the same number with itself."""
    problem = data()
    values = {
        reference.basket_softmax(
            problem.x, problem.w, problem.labels, problem.offsets, margin=margin, scale=16.0, mining=mining, ema=MEANS
        ).item()
        for mining in RULES
        for margin in (*MARGINS[:3], MARGINS[3].eval())
    }  # fmt: skip
    assert len(values) == len(RULES) * len(MARGINS)
