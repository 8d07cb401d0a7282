"""FusedSGD in a training loop: scaled losses, autocast, other optimisers, copies, checkpoints, hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.fused_sgd import cos_lse_with_sgd
from cpu.problem import make

SIZES = (40, 0, 23, 1)
WIDTH = 16
ROWS = 19
FULL = {"momentum": 0.9, "weight_decay": 0.01}


def head(**options: Any) -> bs.BasketSoftmaxLoss:
    """The same centres in every call."""
    loss = bs.BasketSoftmaxLoss(SIZES, WIDTH, mining=bs.TopK(5, 1), **options)
    loss.load_full_weight(make(depth=WIDTH, sizes=SIZES, spread=0.1, dtype=torch.float64).w)
    return loss


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    problem = make(rows=ROWS, depth=WIDTH, sizes=SIZES, spread=0.1, noise=1.0, seed=seed)
    return problem.x.requires_grad_(), problem.labels


def train(loss: bs.BasketSoftmaxLoss, optimiser: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        optimiser.zero_grad()
        loss(*batch(seed)).backward()
        optimiser.step()


def assert_as_torch(one_step: Callable[[bs.BasketSoftmaxLoss], None], **options: Any) -> None:
    fused, plain = head(**options), head(**options)
    start = fused.full_weight()
    optimisers = bs.optim.FusedSGD(fused, 0.05, **FULL), torch.optim.SGD(plain.parameters(), 0.05, **FULL)
    for loss, optimiser in zip((fused, plain), optimisers, strict=True):
        one_step(loss)
        optimiser.step()
    assert torch.equal(fused.weight, plain.weight)
    assert not torch.equal(fused.weight, start)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_scaled_and_weighted_loss(reduction: str) -> None:
    def one_step(loss: bs.BasketSoftmaxLoss) -> None:
        x, labels = batch()
        (loss(x, labels, sample_weight=torch.linspace(0.0, 2.0, ROWS)) * 0.37).backward()

    assert_as_torch(one_step, reduction=reduction)


def test_bfloat16_autocast() -> None:
    def one_step(loss: bs.BasketSoftmaxLoss) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(*batch())
        value.backward()

    assert_as_torch(one_step)


def test_embeddings_without_a_gradient() -> None:
    def one_step(loss: bs.BasketSoftmaxLoss) -> None:
        x, labels = batch()
        loss(x.detach(), labels).backward()

    assert_as_torch(one_step)


def test_evaluation_mode_with_a_gradient_trains_as_well() -> None:
    def one_step(loss: bs.BasketSoftmaxLoss) -> None:
        loss.eval()
        loss(*batch()).backward()

    assert_as_torch(one_step)


def test_all_rows_ignored_is_a_step_of_decay_alone() -> None:
    def one_step(loss: bs.BasketSoftmaxLoss) -> None:
        loss(batch()[0], torch.full((ROWS,), -1)).backward()

    assert_as_torch(one_step)


def test_backbone_and_head_train_together() -> None:
    results = []
    for fuse in (True, False):
        torch.manual_seed(3)
        loss, backbone = head(), torch.nn.Linear(WIDTH, WIDTH)
        if fuse:
            optimisers = [bs.optim.FusedSGD(loss, 0.1, **FULL), torch.optim.SGD(backbone.parameters(), 0.1)]
        else:
            optimisers = [
                torch.optim.SGD(m.parameters(), 0.1, **k) for m, k in ((loss, FULL), (backbone, {}))
            ]
        for seed in range(3):
            for optimiser in optimisers:
                optimiser.zero_grad()
            x, labels = batch(seed)
            loss(backbone(x.detach()), labels).backward()
            for optimiser in optimisers:
                optimiser.step()
        results.append((loss.weight.detach(), backbone.weight.detach()))
    for fused, plain in zip(*results, strict=True):
        assert torch.equal(fused, plain)


def test_centres_move_in_backward_and_step_only_closes() -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    start = loss.full_weight()
    value = loss(*batch())
    assert torch.equal(loss.weight, start)
    value.backward()
    moved = loss.full_weight()
    assert not torch.equal(moved, start)
    assert loss.weight.grad is None
    optimiser.step()
    assert torch.equal(loss.weight, moved)


def test_nothing_moves_without_backward() -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1, momentum=0.9)
    start = loss.full_weight()
    x, labels = batch()
    with torch.no_grad():
        assert not loss(x, labels).requires_grad
    with torch.inference_mode():
        loss(x, labels)
    loss(x, labels)
    loss.eval()(x, labels)
    assert torch.equal(loss.weight, start)
    assert not optimiser.state


def test_a_learning_rate_of_zero_fills_only_the_momentum() -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.0, momentum=0.9)
    start = loss.full_weight()
    train(loss, optimiser, range(1))
    assert torch.equal(loss.weight, start)
    assert optimiser.state[loss.weight]["momentum_buffer"].any()


def test_the_rate_of_the_moment_of_backward_counts() -> None:
    loss, plain = head(), head()
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    value = loss(*batch())
    optimiser.param_groups[0]["lr"] = 0.3
    value.backward()
    optimiser.param_groups[0]["lr"] = 9.0
    optimiser.step()
    train(plain, torch.optim.SGD(plain.parameters(), 0.3), range(1))
    assert torch.equal(loss.weight, plain.weight)


def test_a_refused_second_backward_changes_nothing() -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1, momentum=0.9)
    loss(*batch(0)).backward()
    second = loss(*batch(1))
    weight, momentum = loss.full_weight(), optimiser.state[loss.weight]["momentum_buffer"].clone()
    with pytest.raises(RuntimeError, match=r"a second backward pass before step\(\)"):
        second.backward()
    assert torch.equal(loss.weight, weight)
    assert torch.equal(optimiser.state[loss.weight]["momentum_buffer"], momentum)
    optimiser.step()
    train(loss, optimiser, range(2, 3))


def test_a_closure_is_evaluated_once_with_gradients_as_by_torch_sgd() -> None:
    results = []
    for make_optimiser in (bs.optim.FusedSGD, lambda loss, *a, **k: torch.optim.SGD([loss.weight], *a, **k)):
        loss = head()
        optimiser, calls = make_optimiser(loss, 0.1, **FULL), []

        def closure(loss=loss, optimiser=optimiser, calls=calls) -> Tensor:
            calls.append(torch.is_grad_enabled())
            optimiser.zero_grad()
            value = loss(*batch(len(calls)))
            value.backward()
            return value

        with torch.no_grad():
            values = [optimiser.step(closure).detach() for _ in range(3)]
        assert calls == [True] * 3
        results.append((*values, loss.weight.detach()))
    for fused, plain in zip(*results, strict=True):
        assert torch.equal(fused, plain)


def test_a_closure_without_backward_closes_the_step_that_backward_made() -> None:
    """As a trainer that runs backward itself passes one."""
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    loss(*batch()).backward()
    moved = loss.full_weight()
    assert optimiser.step(lambda: None) is None
    assert torch.equal(loss.weight, moved)
    with pytest.raises(RuntimeError, match=r"step\(\) without a backward pass since the last step"):
        optimiser.step(lambda: None)


def test_a_closure_that_moves_the_centres_again_is_refused() -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    loss(*batch(0)).backward()
    moved = loss.full_weight()
    with pytest.raises(RuntimeError, match=r"a second backward pass before step\(\)"):
        optimiser.step(lambda: loss(*batch(1)).backward())
    assert torch.equal(loss.weight, moved)
    optimiser.step()


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_both_kinds_of_hooks_are_refused(register: str) -> None:
    loss = head()
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    handle = getattr(loss.weight, register)(lambda *_: None)
    with pytest.raises(RuntimeError, match="weight has gradient hooks"):
        loss(*batch())
    handle.remove()
    train(loss, optimiser, range(1))


def test_evaluation_under_fp16_autocast_is_not_refused() -> None:
    loss = head()
    bs.optim.FusedSGD(loss, 0.1)
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        assert loss(*batch()).isfinite()


def test_embeddings_of_frozen_centres_have_their_gradient() -> None:
    frozen, plain = head(), head()
    bs.optim.FusedSGD(frozen, 0.1)
    frozen.weight.requires_grad_(False)
    (x, labels), (other, _) = batch(), batch()
    frozen(x, labels).backward()
    plain(other, labels).backward()
    assert torch.equal(x.grad, other.grad)


def test_a_margin_with_parameters_is_left_to_another_optimiser() -> None:
    class Learnable(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = torch.nn.Parameter(torch.tensor(0.25))

        def forward(self, cos_t: Tensor) -> Tensor:
            return cos_t - self.m

    loss = head(margin=Learnable())
    optimiser = bs.optim.FusedSGD(loss, 0.1)
    train(loss, optimiser, range(1))
    assert loss.margin.m.item() == 0.25
    assert loss.margin.m.grad > 0


def test_a_copied_loss_has_no_optimiser() -> None:
    loss = head()
    bs.optim.FusedSGD(loss, 0.1)
    twin = copy.deepcopy(loss)
    start = twin.full_weight()
    twin(*batch()).backward()
    assert torch.equal(twin.weight, start)
    assert twin.weight.grad.any()
    bs.optim.FusedSGD(twin, 0.1)


@pytest.mark.parametrize("direction", ["to torch", "from torch"])
def test_checkpoints_are_those_of_torch_sgd(direction: str) -> None:
    makers = [
        lambda loss: torch.optim.SGD(loss.parameters(), 0.1, **FULL),
        lambda loss: bs.optim.FusedSGD(loss, 0.1, **FULL),
    ]
    if direction == "to torch":
        makers.reverse()
    first, second = head(), head()
    source = makers[0](first)
    train(first, source, range(2))
    target = makers[1](second)
    second.load_state_dict(first.state_dict())
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    train(first, source, range(2, 4))
    train(second, target, range(2, 4))
    assert torch.equal(first.weight, second.weight)


def test_a_refused_setting_leaves_the_loss_free() -> None:
    loss = head()
    with pytest.raises(ValueError, match="nesterov needs momentum above 0 and dampening = 0"):
        bs.optim.FusedSGD(loss, 0.1, momentum=0.9, dampening=0.1, nesterov=True)
    bs.optim.FusedSGD(loss, 0.1)


def test_a_row_that_is_nan_spoils_only_the_classes_it_reads() -> None:
    loss = head()
    loss.mining = bs.Own()
    optimiser = bs.optim.FusedSGD(loss, 0.1, **FULL)
    x = batch()[0].detach().clone()
    x[0] = torch.nan
    labels = torch.arange(ROWS)
    labels[0] = 63  # alone in its basket
    loss(x, labels).backward()
    optimiser.step()
    # The mean is NaN, so every row of the batch carries a NaN gradient; basket 2 has no row and only decays.
    assert loss.weight[63].isnan().all()
    assert loss.weight[40:63].isfinite().all()


def test_a_weight_elsewhere_is_refused():
    x, w = torch.randn(4, 8, device="meta"), torch.randn(9, 8, device="meta", requires_grad=True)
    labels = torch.zeros(4, dtype=torch.int64, device="meta")
    with pytest.raises(
        ValueError, match=r"w: expected a tensor on the CPU with FusedSGD, got one on meta.*torch\.optim\.SGD"
    ):
        cos_lse_with_sgd(x, w, labels, torch.tensor([0, 9]), step=dict, scale=64.0, mining=bs.Own())
