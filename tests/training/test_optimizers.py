"""The learning rate over the steps, who decays, who is fused, and clipping against torch's own."""

import math

import pytest
import torch
from torch import nn

import basket_softmax as bs
from basket_softmax.training.optimizers import Optimizers, clip_gradients, gradient_norm, warmup_steps
from basket_softmax.training.schedule import learning_rate_factor


def test_warm_up_and_cosine():
    factors = [learning_rate_factor(step, 20, 4, 0.1) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    for step in range(4, 20):
        assert factors[step] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * (step - 4) / 16)))
    assert learning_rate_factor(20, 20, 4, 0.1) == pytest.approx(0.1)
    assert {learning_rate_factor(step, 20, 0, 1.0) for step in range(20)} == {1.0}
    assert learning_rate_factor(3, 4, 100, 0.0) == 0.04  # a run that ends in its warm-up
    assert [warmup_steps(epochs, 10) for epochs in (0.0, 0.25, 1.0)] == [0, 3, 10]


@pytest.fixture
def parts():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    return backbone, bs.BasketSoftmaxLoss({"a": 7, "b": 5}, 4, mining=bs.TopK(2))


def names(backbone, head, group):
    known = {id(p): n for n, p in backbone.named_parameters()} | {id(head.weight): "centres"}
    return {known[id(p)] for p in group["params"]}


def test_groups(small, parts):
    config = small(
        optimizer={"name": "sgd", "lr": 0.2, "weight_decay": 0.01, "head": {"lr": 0.4, "momentum": 0.5}}
    )
    optimizers = Optimizers(config, *parts)
    assert optimizers.fused is None
    found = [
        (names(*parts, g), g["lr"], g["momentum"], g["weight_decay"]) for g in optimizers.main.param_groups
    ]
    assert found == [
        ({"0.weight", "2.weight"}, 0.2, 0.9, 0.01),
        ({"0.bias", "1.weight", "1.bias", "2.bias"}, 0.2, 0.9, 0.0),
        ({"centres"}, 0.4, 0.5, 0.01),
    ]
    assert optimizers.set_rate(0.5) == 0.1
    assert [g["lr"] for g in optimizers.main.param_groups] == [0.1, 0.1, 0.2]
    everything = Optimizers(small(optimizer={"name": "adamw", "decay_all": True}), *parts)
    assert [g["weight_decay"] for g in everything.main.param_groups] == [0.05, 0.05]


def test_a_fused_head_is_in_no_other_optimiser(small, parts):
    optimizers = Optimizers(small(optimizer={"name": "sgd", "head": {"fused": True, "lr": 0.3}}), *parts)
    assert isinstance(optimizers.fused, bs.optim.FusedSGD)
    assert optimizers.fused.weight is parts[1].weight
    assert parts[1].weight not in set(optimizers.trained)
    optimizers.set_rate(0.1)
    assert optimizers.fused.param_groups[0]["lr"] == pytest.approx(0.03)


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_is_torch_s(parts, limit):
    backbone, head = parts
    head(backbone(torch.randn(8, 6)), torch.arange(8)).backward()
    everything = [*backbone.parameters(), head.weight]
    copies = [nn.Parameter(p.detach().clone()) for p in everything]
    for copy, p in zip(copies, everything, strict=True):
        copy.grad = p.grad.clone()
    want = nn.utils.clip_grad_norm_(copies, limit)
    norm = gradient_norm(backbone.parameters(), [head.weight], None)
    clip_gradients(everything, norm, limit)
    torch.testing.assert_close(norm, want)
    for copy, p in zip(copies, everything, strict=True):
        torch.testing.assert_close(p.grad, copy.grad)


def test_a_sparse_gradient_counts_and_is_clipped(parts):
    backbone, _ = parts
    head = bs.BasketSoftmaxLoss({"a": 7, "b": 5}, 4, mining=bs.TopK(2), sample_rate=0.7, sparse_grad=True)
    head(backbone(torch.randn(3, 6)), torch.arange(3)).backward()
    assert head.weight.grad.is_sparse
    dense = head.weight.grad.to_dense()
    norm = gradient_norm([], [head.weight], None)
    torch.testing.assert_close(norm, dense.norm())
    clip_gradients([head.weight], norm, float(norm) / 2)
    torch.testing.assert_close(head.weight.grad.to_dense(), dense / 2)


def test_an_infinite_norm_leaves_the_scaler_to_see_it(parts):
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([torch.inf, 1.0])
    clip_gradients([parameter], gradient_norm([parameter], [], None), 1.0)
    assert torch.equal(parameter.grad, torch.tensor([torch.inf, 1.0]))
