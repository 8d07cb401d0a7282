"""sample_rate with aliases, guards, local labels, weights and add_basket: the loss over the sample, nothing else."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from basket_softmax.losses.sampling import sample_classes
from bbs_kernels import reference
from cpu.problem import Problem, make

SIZES = (60, 0, 89, 1)
CLASSES = 150
RATE = 0.5
RULES = [
    bs.All(),
    bs.Own(),
    bs.Below(bs.Relative(0.1)),
    bs.TopK(4, 1),
    bs.TopK(4, 0, bs.Absolute(0.3)),
    bs.TopK(4, 1, bs.Ema(0.6)),
]


def data(**options) -> Problem:
    return make(
        rows=23, depth=12, sizes=SIZES, dtype=torch.float64, spread=0.2, noise=1.0, copies=0.0, seed=4, **options
    )  # fmt: skip


def head(problem: Problem, mining: bs.TopK, rate: float = RATE, **options) -> bs.BasketSoftmaxLoss:
    loss = bs.BasketSoftmaxLoss(
        SIZES, 12, scale=16.0, mining=mining, sample_rate=rate, aliases=problem.aliases, dtype=torch.float64,
        sparse_grad=True, **options
    )  # fmt: skip
    loss.load_full_weight(problem.w)
    return loss


@pytest.mark.parametrize("mates", [False, True], ids=["plain", "aliases"])
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_equals_the_reference_over_the_sample(mining, mates: bool) -> None:
    problem = data(mates=mates)
    loss = head(problem, mining)
    x = problem.x.clone().requires_grad_()
    weight = torch.linspace(0.0, 2.0, 23, dtype=torch.float64)
    torch.manual_seed(9)
    got = loss(x, problem.labels, sample_weight=weight)
    dx, dw = torch.autograd.grad(got, (x, loss.weight))

    torch.manual_seed(9)
    index = sample_classes(problem.labels, CLASSES, RATE, -1)
    small_x, small_w = problem.x.clone().requires_grad_(), problem.w[index].requires_grad_()
    labels = torch.where(problem.valid, torch.searchsorted(index, problem.labels.clamp_min(0)), -1)
    want = reference.basket_softmax(
        small_x, small_w, labels, torch.searchsorted(index, problem.offsets), margin=loss.margin, scale=16.0,
        mining=mining, sample_weight=weight, aliases=None if problem.aliases is None else problem.aliases[index],
        ema=torch.full((4,), torch.inf, dtype=torch.float64), training=True,
    )  # fmt: skip
    want_dx, want_dw = torch.autograd.grad(want, (small_x, small_w))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(dx, want_dx, rtol=1e-8, atol=1e-11)
    assert torch.equal(dw.coalesce().indices()[0], index)
    torch.testing.assert_close(dw.coalesce().values(), want_dw, rtol=1e-8, atol=1e-11)


def test_running_means_do_not_depend_on_the_sample() -> None:
    problem = data()
    heads = [head(problem, bs.Below(bs.Ema(0.5)), rate) for rate in (RATE, 1.0)]
    for seed in range(3):
        torch.manual_seed(seed)
        for loss in heads:
            loss(problem.x, problem.labels)
    torch.testing.assert_close(heads[0].ema, heads[1].ema, rtol=1e-12, atol=0.0)


def test_local_labels_are_sampled_alike() -> None:
    problem = data()
    loss = head(problem, bs.TopK(4, 1))
    local, basket = loss.baskets.to_local(problem.labels)
    torch.manual_seed(3)
    want = loss(problem.x, problem.labels)
    torch.manual_seed(3)
    assert torch.equal(loss(problem.x, local, basket=basket), want)


def test_every_step_draws_anew() -> None:
    problem = data()
    loss = head(problem, bs.All())
    torch.manual_seed(0)
    assert len({loss(problem.x, problem.labels).item() for _ in range(5)}) == 5


def test_rate_one_draws_nothing_and_has_a_dense_gradient() -> None:
    problem = data()
    loss = head(problem, bs.TopK(4, 1), 1.0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    value = loss(problem.x, problem.labels)
    assert torch.equal(torch.get_rng_state(), state)
    value.backward()
    assert loss.weight.grad.layout == torch.strided


def test_evaluation_draws_nothing() -> None:
    problem = data()
    sampled, full = head(problem, bs.TopK(4, 1)).eval(), head(problem, bs.TopK(4, 1), 1.0).eval()
    state = torch.get_rng_state()
    value = sampled(problem.x, problem.labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(value, full(problem.x, problem.labels))
    value.backward()
    assert sampled.weight.grad.layout == torch.strided


def test_all_rows_ignored() -> None:
    problem = data()
    loss = head(problem, bs.TopK(4, 1))
    x = problem.x.clone().requires_grad_()
    value = loss(x, torch.full((23,), -1))
    value.backward()
    assert value == 0
    assert not x.grad.any()
    assert not loss.weight.grad.to_dense().any()


def test_a_new_basket_is_sampled_too() -> None:
    problem = data()
    loss = head(problem, bs.All())
    loss.add_basket("new", 40)
    torch.manual_seed(1)
    loss(problem.x, problem.labels).backward()
    index = loss.weight.grad.coalesce().indices()[0]
    assert len(index) == 95
    assert (index >= CLASSES).any()


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "weight_decay": 0.01}], ids=str)
def test_rate_one_under_fused_sgd_is_the_dense_update(settings: dict) -> None:
    problem = data()
    weights = []
    for rate in (1.0, 0.5):  # the second goes through the sampled path and takes every class
        loss = head(problem, bs.TopK(4, 1), rate)
        if rate < 1.0:
            loss._sampled = lambda labels: torch.arange(CLASSES)
        optimiser = bs.optim.FusedSGD(loss, 0.1, **settings)
        for _ in range(2):
            loss(problem.x, problem.labels).backward()
            optimiser.step()
        weights.append(loss.full_weight())
    assert torch.equal(*weights)


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.5, float("nan")])
def test_rates_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match=r"sample_rate: expected a number in \(0, 1\], got .*"):
        bs.BasketSoftmaxLoss(SIZES, 12, sample_rate=rate)


def test_a_label_out_of_range_is_named() -> None:
    problem = data()
    labels = problem.labels.clone()
    labels[2] = CLASSES
    with pytest.raises(RuntimeError, match="150"):
        head(problem, bs.TopK(4, 1))(problem.x, labels)
