"""FusedSGD against torch.optim.SGD bit for bit, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

import basket_softmax as bs

SIZES = [40, 0, 65]
SETTINGS = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 5e-4},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True},
]


def make(mining=None, dtype=torch.float32, **options) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss(SIZES, 24, mining=mining or bs.TopK(k=6), scale=16.0, dtype=dtype, **options)


def batches(count: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        labels = torch.randint(105, (31,), generator=generator)
        labels[::9] = -1
        yield torch.randn(31, 24, generator=generator).to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("mining", [bs.Own(), bs.TopK(k=6), bs.All(), bs.Below(bs.Absolute(0.1))], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_of_torch_sgd(settings, mining, dtype):
    fused, plain = make(mining, dtype), make(mining, dtype)
    ours, theirs = bs.optim.FusedSGD(fused, **settings), torch.optim.SGD(plain.parameters(), **settings)
    for x, labels in batches(4, dtype):
        values, embedding_gradients = [], []
        for loss, optimizer in ((fused, ours), (plain, theirs)):
            optimizer.zero_grad()
            value = loss(x, labels)
            x.grad = None
            value.backward()
            optimizer.step()
            values.append(value.detach())
            embedding_gradients.append(x.grad)
        assert torch.equal(*values)
        assert torch.equal(*embedding_gradients)
        assert torch.equal(fused.weight, plain.weight)
        assert fused.weight.grad is None
    if "momentum" in settings:
        mine = ours.state[fused.weight]["momentum_buffer"]
        assert torch.equal(mine, theirs.state[plain.weight]["momentum_buffer"])


@pytest.mark.parametrize("margin", [bs.CosFace(0.2), bs.SphereFace(1.3), torch.sin, lambda c: c - 0.2])
def test_bits_with_margins_in_and_out_of_the_kernels(margin):
    fused, plain = make(margin=margin), make(margin=margin)
    ours, theirs = bs.optim.FusedSGD(fused, lr=0.1, momentum=0.9), torch.optim.SGD([plain.weight], 0.1, 0.9)
    for x, labels in batches(3):
        for loss, optimizer in ((fused, ours), (plain, theirs)):
            optimizer.zero_grad()
            loss(x, labels).backward()
            optimizer.step()
    assert torch.equal(fused.weight, plain.weight)


def test_learning_rate_schedule():
    fused, plain = make(), make()
    ours = bs.optim.FusedSGD(fused, lr=0.2, momentum=0.9)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.9)
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (ours, theirs)]
    for x, labels in batches(5):
        for loss, optimizer, schedule in zip((fused, plain), (ours, theirs), schedules, strict=True):
            optimizer.zero_grad()
            loss(x, labels).backward()
            optimizer.step()
            schedule.step()
    assert torch.equal(fused.weight, plain.weight)


def test_state_dict_goes_on_bit_for_bit():
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1, momentum=0.9)
    steps = list(batches(4))
    for x, labels in steps[:2]:
        loss(x, labels).backward()
        optimizer.step()
    other = make()
    other.load_state_dict(loss.state_dict())
    restored = bs.optim.FusedSGD(other, lr=9.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for x, labels in steps[2:]:
        for head, opt in ((loss, optimizer), (other, restored)):
            head(x, labels).backward()
            opt.step()
    assert torch.equal(loss.weight, other.weight)


def test_constant_embeddings_still_move_the_centres():
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    before = loss.weight.detach().clone()
    x, labels = next(batches(1))
    loss(x.detach(), labels).backward()
    optimizer.step()
    assert not torch.equal(loss.weight, before)


def test_no_grad_and_a_frozen_weight_leave_it_alone():
    loss = make()
    bs.optim.FusedSGD(loss, lr=0.1)
    x, labels = next(batches(1))
    before = loss.weight.detach().clone()
    with torch.no_grad():
        loss(x, labels)
    loss.weight.requires_grad_(False)
    loss(x, labels).backward()
    assert torch.equal(loss.weight, before)


def test_refusals():
    x, labels = next(batches(1))
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    with pytest.raises(RuntimeError, match=r"step\(\) without a backward pass"):
        optimizer.step()
    loss(x, labels).backward()
    with pytest.raises(RuntimeError, match=r"a second backward pass before step\(\)"):
        loss(x, labels).backward()
    optimizer.step()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(RuntimeError, match="FusedSGD under fp16 autocast"),
    ):
        loss(x, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss(x, labels).backward()
    optimizer.step()
    handle = loss.weight.register_hook(lambda g: g)
    with pytest.raises(RuntimeError, match="weight has gradient hooks"):
        loss(x, labels)
    handle.remove()
    with pytest.raises(Exception, match=r"FusedSGD cannot be traced by torch\.compile"):
        torch.compile(loss, fullgraph=True, backend="eager")(x, labels)


def test_two_forwards_then_two_backwards_are_refused_not_wrong():
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    (x1, y1), (x2, y2) = batches(2)
    first, second = loss(x1, y1), loss(x2, y2)
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.backward()


def test_constructor_messages():
    loss = make()
    with pytest.raises(TypeError, match="loss: expected a BasketSoftmaxLoss, got Linear"):
        bs.optim.FusedSGD(torch.nn.Linear(2, 2), lr=0.1)
    for name in ("lr", "momentum", "weight_decay"):
        with pytest.raises(ValueError, match=f"{name}: expected a number from 0, got -1"):
            bs.optim.FusedSGD(loss, **{"lr": 0.1, name: -1})
    with pytest.raises(ValueError, match="nesterov needs momentum above 0"):
        bs.optim.FusedSGD(loss, lr=0.1, nesterov=True)
    bs.optim.FusedSGD(loss, lr=0.1)
    with pytest.raises(ValueError, match="loss: expected a head without a FusedSGD"):
        bs.optim.FusedSGD(loss, lr=0.1)


def test_misuse_is_refused_before_anything_moves():
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    with pytest.raises(RuntimeError, match="FusedSGD trains the weight of its loss only"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    x, labels = next(batches(1))
    before = loss.weight.detach().clone()
    with pytest.raises(RuntimeError, match="the fused step has no second derivative"):
        torch.autograd.grad(loss(x, labels), x, create_graph=True)
    assert torch.equal(loss.weight, before)
    with pytest.raises(ValueError, match="lr: expected a number from 0, got nan"):
        bs.optim.FusedSGD(make(), lr=float("nan"))


@pytest.mark.parametrize("scale", [65536.0, 128.0, 2.0])
def test_a_loss_multiplied_by_a_grad_scaler_is_refused(scale):
    """Up to 128 it once passed for a weight, and multiplied the step of the centres."""
    loss = make()
    bs.optim.FusedSGD(loss, lr=0.1)
    x, labels = next(batches(1))
    before = loss.weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with pytest.raises(
        RuntimeError, match=f"expected a loss multiplied by up to 1, got {scale:g}, as by a GradScaler"
    ):
        scaler.scale(loss(x, labels)).backward()
    with pytest.raises(RuntimeError, match="multiplied by up to 1, got nan"):
        (loss(x, labels) * float("nan")).backward()
    assert torch.equal(loss.weight, before)


def test_a_weight_that_rounds_to_one_is_not_a_grad_scaler():
    loss = make()
    optimizer = bs.optim.FusedSGD(loss, lr=0.1)
    x, labels = next(batches(1))
    value = loss(x, labels)
    sum((value * (1 / 7) for _ in range(7)), torch.zeros(())).backward()
    optimizer.step()
