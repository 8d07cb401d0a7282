"""What a FusedSGD refuses because it belongs to one loss and one parameter, and what add_basket does with it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import basket_softmax as bs
from cpu.problem import make

SIZES = (5, 4, 3)
WIDTH = 8


def trained() -> tuple[bs.BasketSoftmaxLoss, bs.optim.FusedSGD]:
    loss = bs.BasketSoftmaxLoss(SIZES, WIDTH, mining=bs.TopK(2, 1))
    loss.load_full_weight(torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0)))
    optimizer = bs.optim.FusedSGD(loss, 0.05, momentum=0.9)
    loss(*batch()).backward()
    optimizer.step()
    return loss, optimizer


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    problem = make(rows=7, depth=WIDTH, sizes=SIZES, spread=0.1)
    return problem.x.requires_grad_(), problem.labels


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
def test_copies_say_what_to_do_instead(copied) -> None:
    _, optimizer = trained()
    with pytest.raises(
        TypeError, match=r"FusedSGD belongs to its loss and cannot be copied or pickled.*state_dict"
    ):
        copied(optimizer)


def test_a_replaced_parameter_is_not_moved_with_the_old_ones_state() -> None:
    loss, _ = trained()
    loss.weight = nn.Parameter(torch.randn(12, WIDTH))
    before = loss.full_weight()
    with pytest.raises(RuntimeError, match="weight is not the parameter that this FusedSGD was made for"):
        loss(*batch())
    assert torch.equal(loss.weight, before)


def test_functional_call_is_refused() -> None:
    loss, _ = trained()
    other = {"weight": torch.randn(12, WIDTH, requires_grad=True)}
    with pytest.raises(RuntimeError, match="functional_call"):
        torch.func.functional_call(loss, other, batch())


def test_add_basket_knows_the_fused_optimizer() -> None:
    (told, first), (untold, second) = trained(), trained()
    init = torch.randn(6, WIDTH)
    told.add_basket("new", 6, init=init, optimizer=first)
    untold.add_basket("new", 6, init=init)
    for loss, optimizer in ((told, first), (untold, second)):
        assert optimizer.state[loss.weight]["momentum_buffer"].shape == (18, WIDTH)
        loss(*batch()).backward()
        optimizer.step()
    assert torch.equal(told.weight, untold.weight)


def test_another_optimizer_is_refused_by_add_basket() -> None:
    loss, _ = trained()
    stranger = torch.optim.SGD([nn.Parameter(torch.zeros(12, WIDTH))], 0.1)
    with pytest.raises(ValueError, match="optimizer: expected the one that trains this loss's weight"):
        loss.add_basket("new", 6, optimizer=stranger)
    assert loss.baskets.sizes == SIZES


def test_a_gradient_for_the_embeddings_alone_is_a_backward_pass_too() -> None:
    loss, optimizer = trained()
    x, labels = batch()
    before = loss.full_weight()
    torch.autograd.grad(loss(x, labels), x)
    assert not torch.equal(loss.weight, before)
    optimizer.step()


def test_a_stale_graph_is_refused() -> None:
    loss, optimizer = trained()
    first, second = loss(*batch()), loss(*batch())
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.backward()


def test_it_does_not_trace_but_a_graph_break_gives_the_same_bits() -> None:
    (eager, first), (compiled, second) = trained(), trained()
    with pytest.raises(Exception, match="FusedSGD cannot be traced"):
        torch.compile(compiled, fullgraph=True, backend="eager")(*batch())
    torch._dynamo.reset()
    torch.compile(compiled, backend="eager")(*batch()).backward()
    eager(*batch()).backward()
    first.step()
    second.step()
    assert torch.equal(eager.weight, compiled.weight)


@pytest.mark.parametrize("margin", [bs.ArcFace(0.3), lambda cos_t: cos_t - 0.3], ids=["in the kernel", "own"])
def test_embeddings_changed_in_place_before_backward_are_noticed(margin) -> None:
    loss = bs.BasketSoftmaxLoss([5, 4], 8, margin=margin)
    bs.optim.FusedSGD(loss, lr=0.1)
    x = torch.randn(4, 8, requires_grad=True) * 1.0
    value = loss(x, torch.tensor([0, 1, 6, 8]))
    with torch.no_grad():
        x.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
