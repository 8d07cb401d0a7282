"""Bodies: twenty steps of a small backbone and a head, by all ranks and by one process with the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs

from .heads import Case, Pair

STEPS = 20


def backbone(case: Case) -> nn.Module:
    """No batch statistics, so that it does not matter how a batch is split."""
    torch.manual_seed(11)
    return nn.Sequential(nn.Linear(case.depth, 32), nn.Tanh(), nn.Linear(32, case.depth))


def head_optimizer(head: bs.BasketSoftmaxLoss, kind: str) -> torch.optim.Optimizer:
    if kind == "fused":
        return bs.optim.FusedSGD(head, lr=0.2, momentum=0.9, weight_decay=1e-4)
    if kind == "adam":
        return torch.optim.AdamW([head.weight], lr=1e-3)
    return torch.optim.SGD([head.weight], lr=0.2, momentum=0.9, weight_decay=1e-4)


def train(
    net: nn.Module, head: bs.BasketSoftmaxLoss, optimizer: str, batches: list, average: object = None
) -> list[float]:
    """The losses of all steps."""
    steps = [torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), head_optimizer(head, optimizer)]
    losses = []
    for x, labels in batches:
        value = head(net(x), labels)
        for step in steps:
            step.zero_grad()
        value.backward()
        if average is not None:
            average(net)
        for step in steps:
            step.step()
        losses.append(float(value.detach()))
    return losses


def batches_of(pair: Pair, own: bool) -> list[tuple[Tensor, Tensor]]:
    """Twenty batches around fixed centres; of each the rank's own rows, or all. Some rows are ignored."""
    found, centres = [], nn.functional.normalize(pair.problem.w)
    for step in range(STEPS):
        g = torch.Generator().manual_seed(step)
        labels = torch.randint(len(centres), (len(pair.problem.labels),), generator=g)
        x = centres[labels] + 0.05 * torch.randn(len(labels), pair.case.depth, generator=g)
        labels[step % len(labels)] = -1
        rows = pair.own if own else slice(None)
        found.append((x[rows], labels[rows]))
    return found


def twenty_steps(group: dist.ProcessGroup, case: Case, wrapper: str, optimizer: str) -> float:
    """Largest difference of the losses; the centres and the backbone must agree as well."""
    pair = Pair(group, case)
    alone, net = pair.head(False), backbone(case)
    # FusedSGD takes no head that other ranks hold too; the bits are those of torch.optim.SGD.
    want = train(net, alone, "sgd" if optimizer == "fused" else optimizer, batches_of(pair, False))

    ours = backbone(case)
    together = pair.head(True, grad_average=wrapper != "by hand")
    wrapped, average = ours, None
    if wrapper == "ddp":
        wrapped = DistributedDataParallel(ours, process_group=group)
    elif wrapper == "fsdp":
        wrapped = fully_shard(ours, mesh=DeviceMesh.from_group(group, "cpu"))
    else:

        def average(module: nn.Module) -> None:
            for parameter in module.parameters():
                dist.all_reduce(parameter.grad, group=group)

    got = train(wrapped, together, optimizer, batches_of(pair, True), average)
    off = max(abs(a - b) for a, b in zip(got, want, strict=True))
    assert off <= 1e-4, f"losses off by {off}"
    assert sum(want[-5:]) < 0.8 * sum(want[:5]), "nothing was learned"
    torch.testing.assert_close(
        together.weight.detach(), pair.part(alone.weight.detach()), rtol=1e-4, atol=1e-4
    )
    for a, b in zip(wrapped.parameters(), net.parameters(), strict=True):
        full = a.full_tensor() if hasattr(a, "full_tensor") else a
        torch.testing.assert_close(full.detach(), b.detach(), rtol=1e-4, atol=1e-4)
    return off
