"""Bodies: what trainers do to a class-parallel head, with torch alone: one module in DDP, and files of rank 0."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs

from .heads_in_use import refusal
from .ranks import of_every_rank
from .replicated import WIDTH, Net, batch

SIZES = (20, 30)
STEPS = 10


def recognizer(group: dist.ProcessGroup | None, seed: int = 0) -> Net:
    """A backbone and a head whose every kind of state occurs; alike on every rank."""
    torch.manual_seed(seed)
    aliases = torch.full((sum(SIZES),), -1)
    aliases[[3, 27]] = 0
    net = Net(
        bs.BasketSoftmaxLoss(
            SIZES, WIDTH, bs.AdaFace(), 16.0, bs.TopK(4, 1, bs.Ema(0.5)), aliases=aliases, process_group=group
        )
    )
    if group is not None:
        own = [*net.head.named_parameters(), *net.head.named_buffers()]
        net._ddp_params_and_buffers_to_ignore = [f"head.{name}" for name, _ in own]
    return net


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    """One for all parameters, as trainers have it."""
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def train(
    net: Net, forward: nn.Module, optimizer: torch.optim.Optimizer, rank: int | None, steps: range, world: int
):
    """The losses; `rank` None: one process with the rows of all."""
    losses = []
    for step in steps:
        parts = [batch(world * step + r) for r in range(world)]
        whole = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        optimizer.zero_grad()
        value = forward(*(whole if rank is None else parts[rank]))
        value.backward()
        nn.utils.clip_grad_norm_(net.backbone.parameters(), 0.5)
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def spread(tensor: Tensor, group: dist.ProcessGroup) -> float:
    """The largest difference from rank to rank."""
    every = of_every_rank(tensor, group)
    return max(float((each - every[0]).abs().max()) for each in every)


def one_module(group: dist.ProcessGroup) -> None:
    """DDP around both, told to ignore the head: the steps of one process."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    alone, net = recognizer(None), recognizer(group)
    wrapped = DistributedDataParallel(net, process_group=group)
    want = train(alone, alone, optimizer_of(alone), None, range(STEPS), world)
    got = train(net, wrapped, optimizer_of(net), rank, range(STEPS), world)
    assert max(abs(a - b) for a, b in zip(got, want, strict=True)) <= 1e-4
    torch.testing.assert_close(net.head.full_weight(), alone.head.full_weight(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.head.ema, alone.head.ema, rtol=1e-4, atol=1e-4)
    assert spread(net.backbone.weight, group) == 0.0


def forgotten_buffers(group: dist.ProcessGroup) -> None:
    """The aliases are a rank's own: DDP must not give every rank those of rank 0."""
    net = recognizer(group)
    net._ddp_params_and_buffers_to_ignore = ["head.weight"]
    wrapped = DistributedDataParallel(net, process_group=group)
    message = refusal(RuntimeError, lambda: wrapped(*batch(dist.get_rank(group))))
    assert "name its buffers in _ddp_params_and_buffers_to_ignore" in message


def clipped_together(group: dist.ProcessGroup) -> None:
    """Why the head must not be part of a trainer's clipping: the norm, and so the backbone, differs between ranks."""
    net = recognizer(group)
    wrapped = DistributedDataParallel(net, process_group=group)
    wrapped(*batch(dist.get_rank(group))).backward()
    assert spread(net.backbone.weight.grad, group) == 0.0
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    assert spread(net.backbone.weight.grad, group) > 0.0


def rank_0_files(group: dist.ProcessGroup, folder: str) -> None:
    """A trainer's files, then `bs.checkpoint.load`: the continuation has the bits of a run without interruption."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)

    def begin(seed: int) -> tuple[Net, nn.Module, torch.optim.Optimizer]:
        net = recognizer(group, seed)
        return net, DistributedDataParallel(net, process_group=group), optimizer_of(net)

    run = begin(0)
    train(*run, rank, range(STEPS), world)
    saved = [copy.deepcopy((run[0].state_dict(), run[2].state_dict()))]
    head = Path(folder) / "head"
    bs.checkpoint.save(head, run[0].head, run[2])
    want = train(*run, rank, range(STEPS, 2 * STEPS), world)
    dist.broadcast_object_list(
        saved, dist.get_global_rank(group, 0), group=group
    )  # what the file of rank 0 holds
    state, momenta = saved[0]
    plain = OrderedDict(state)  # as safetensors keeps it, without metadata

    def load(net: Net, optimizer: torch.optim.Optimizer) -> None:
        net.load_state_dict(plain)
        optimizer.load_state_dict(copy.deepcopy(momenta))

    net, wrapped, optimizer = begin(1)
    load(net, optimizer)
    bs.checkpoint.load(head, net.head, optimizer)
    assert train(net, wrapped, optimizer, rank, range(STEPS, 2 * STEPS), world) == want

    net, _, optimizer = begin(1)
    bs.checkpoint.load(head, net.head, optimizer)
    own = net.head.weight.detach().clone()
    load(net, optimizer)  # the other order: every rank has the shard of rank 0
    assert torch.equal(net.head.weight, own) == (rank == 0)
    if rank > 0:  # a file of torch.save knows whose it is
        message = refusal(RuntimeError, lambda: net.load_state_dict(state))
        assert f"the part of rank 0 of {world} (shard 'basket') there" in message
