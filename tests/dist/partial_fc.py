"""Bodies: compat.insightface.PartialFC_V2 on several ranks, beside one process and beside the published computation."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs
from basket_softmax.compat.insightface import ArcFace, CombinedMarginLoss, PartialFC_V2, partial_fc

from .heads import error
from .heads_in_use import WithHead, refusal

CLASSES, WIDTH = 98, 24  # 98: one rank of three has a class less
ROWS = (9, 0, 14, 3)  # of ranks 0 … 3
STEPS = 20


class Data:
    """Planted rows of every rank, some ignored; `own`: those of this rank."""

    def __init__(self, group: dist.ProcessGroup, seed: int = 0) -> None:
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)
        counts = ROWS[: self.world]
        g = torch.Generator().manual_seed(seed)
        self.w = torch.randn(CLASSES, WIDTH, generator=g)
        self.labels = torch.randint(CLASSES, (sum(counts),), generator=g)
        self.x = self.w[self.labels] + torch.randn(sum(counts), WIDTH, generator=g)
        self.labels[2::5] = -1
        self.own = slice(sum(counts[: self.rank]), sum(counts[: self.rank + 1]))


@contextmanager
def no_default_group() -> Iterator[None]:
    """What a process without torch.distributed sees; these tests run inside a group."""
    original, partial_fc.default_group = partial_fc.default_group, lambda: None
    try:
        yield
    finally:
        partial_fc.default_group = original


class Alone(nn.Module):
    """A head of one process with all classes."""

    def __init__(self, w: Tensor, **options: object) -> None:
        super().__init__()
        with no_default_group():
            self.head = PartialFC_V2(ArcFace(), WIDTH, len(w), **options)
        self.weight = self.head.weight
        self.weight.data.copy_(w)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        with no_default_group():
            return self.head(x, labels)


def together(group: dist.ProcessGroup, w: Tensor, **options: object) -> PartialFC_V2:
    head = PartialFC_V2(ArcFace(), WIDTH, len(w), process_group=group, **options)
    head.weight.data.copy_(w[head.class_start : head.class_start + head.num_local])
    return head


def step(head: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = head(x, labels)
    value.backward()
    return value.detach(), x.grad, head.weight.grad


def one_step(group: dist.ProcessGroup) -> None:
    """Loss, the embeddings' gradient times the ranks, the gradient of this rank's centres: those of one process."""
    data = Data(group)
    # fp16 rounds the gradient of the normalised rows, once in one process and once on the sum of ranks here.
    for options, bound in (({}, 6e-6), ({"fp16": True}, 2e-3)):
        want = step(Alone(data.w, **options), data.x, data.labels)
        head = together(group, data.w, **options)
        value, dx, dw = step(head, data.x[data.own], data.labels[data.own, None])
        assert abs(float(value - want[0])) <= 1e-6 * float(want[0])
        assert dx.dtype == dw.dtype == torch.float32
        assert error(dx, data.world * want[1][data.own]) <= bound
        assert error(dw, want[2][head.class_start : head.class_start + head.num_local]) <= bound
        every: list = [None] * data.world
        dist.all_gather_object(every, value, group=group)
        assert all(torch.equal(value, other) for other in every), "the loss differs between ranks"


def published(group: dist.ProcessGroup, sample_rate: float) -> None:
    """What a rank of train_v2.py gets, written out: gathered rows whose gradients are summed over the ranks and
    multiplied by their number, logits of the rank's classes, cross entropy over all ranks."""
    data = Data(group, seed=3)
    data.labels.clamp_min_(0)  # there an ignored row is not ignored
    head = together(group, data.w, sample_rate=sample_rate)
    drawn: list[Tensor] = []
    draw = head._sample

    def remember(labels: Tensor) -> Tensor:
        drawn.append(draw(labels))
        return drawn[-1]

    head._sample = remember
    torch.manual_seed(data.rank)
    value, dx, dw = step(head, data.x[data.own], data.labels[data.own])

    chosen = drawn[0] if sample_rate < 1.0 else torch.arange(head.num_local)
    every: list = [None] * data.world
    dist.all_gather_object(every, head.class_start + chosen, group=group)
    classes = torch.cat(every)
    x, w = data.x.double().requires_grad_(), data.w.double().requires_grad_()
    cos = F.normalize(x) @ F.normalize(w[classes]).t()
    hot = classes == data.labels[:, None]
    assert hot.any(1).all(), "a positive was not sampled"
    with torch.no_grad():
        shift = torch.where(hot, torch.cos(cos.clamp(-1, 1).arccos() + 0.5) - cos, 0.0)
    loss = F.cross_entropy(64.0 * (cos + shift), hot.int().argmax(1))
    loss.backward()
    assert abs(float(value) - float(loss.detach())) <= 1e-6 * float(loss.detach())
    assert error(dx, data.world * x.grad[data.own]) <= 6e-6
    assert not dw.is_sparse
    assert error(dw, w.grad[head.class_start : head.class_start + head.num_local]) <= 6e-6
    if sample_rate < 1.0:
        mine = (data.labels >= head.class_start) & (data.labels < head.class_start + head.num_local)
        positives = len(data.labels[mine].unique())
        assert len(chosen) == max(int(sample_rate * head.num_local), positives)


def with_the_backbone_in_ddp(group: dist.ProcessGroup) -> float:
    """Twenty steps as train_v2.py makes them, both in one optimiser: the largest difference from one process."""
    data = Data(group)

    def train(backbone: nn.Module, net: nn.Module, head: nn.Module, rows: slice) -> list[float]:
        parameters = [{"params": backbone.parameters()}, {"params": head.parameters()}]
        sgd = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4)
        losses = []
        for n in range(STEPS):
            order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(n))
            value = head(net(data.x[order][rows]), data.labels[order][rows])
            sgd.zero_grad()
            value.backward()
            sgd.step()
            losses.append(float(value.detach()))
        return losses

    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
    ours = copy.deepcopy(plain)
    one, head = Alone(data.w), together(group, data.w)
    want = train(plain, plain, one, slice(None))
    got = train(ours, DistributedDataParallel(ours, process_group=group), head, data.own)
    assert want[-1] < 0.8 * want[0], "nothing was learned"
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    part = one.weight[head.class_start : head.class_start + head.num_local]
    torch.testing.assert_close(head.weight, part, rtol=1e-4, atol=1e-4)
    return max(abs(a - b) for a, b in zip(got, want, strict=True))


def states(group: dist.ProcessGroup, folder: str) -> None:
    """First centres as of one process; a rank's state is `weight` alone; files of all ranks load elsewhere."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    torch.manual_seed(5)
    head = PartialFC_V2(CombinedMarginLoss(64, 1.0, 0.5, 0.0), WIDTH, CLASSES, process_group=group)
    torch.manual_seed(5)
    full = torch.normal(0, 0.01, (CLASSES, WIDTH))
    assert (head.rank, head.world_size) == (rank, world)
    assert torch.equal(head.weight, full[head.class_start : head.class_start + head.num_local])
    assert list(head.state_dict()) == ["weight"]
    torch.save(head.state_dict(), Path(folder) / f"softmax_fc_gpu_{rank}.pt")
    dist.barrier(group)
    other = bs.CosFaceLoss(CLASSES, WIDTH, process_group=group)
    bs.checkpoint.load_insightface(folder, other)
    assert torch.equal(other.full_weight(), full)
    again = PartialFC_V2(ArcFace(), WIDTH, CLASSES, process_group=group)
    again.load_state_dict(torch.load(Path(folder) / f"softmax_fc_gpu_{rank}.pt", weights_only=True))
    assert torch.equal(again.weight, head.weight)
    if world > 1:
        other = torch.load(Path(folder) / f"softmax_fc_gpu_{(rank + 1) % world}.pt", weights_only=True)
        _refuses_other_rows(
            again, other, f"the part of rank {(rank + 1) % world} of {world} (shard 'even') there"
        )
        with no_default_group():
            alone = PartialFC_V2(ArcFace(), WIDTH, CLASSES)
            more = PartialFC_V2(ArcFace(), WIDTH, CLASSES * world)
        _refuses_other_rows(again, alone.state_dict(), f"is whole there, the part of rank {rank} of {world}")
        _refuses_other_rows(
            again, more.state_dict(), f"those of {CLASSES * world} classes, this head has {CLASSES}"
        )
        _refuses_other_rows(
            alone, again.state_dict(), f"the part of rank {rank} of {world} (shard 'even') there, whole"
        )
    few = PartialFC_V2(ArcFace(), WIDTH, 1, process_group=group)
    assert few.num_local == int(rank == 0)  # ranks without a class take part
    x = torch.ones(2, WIDTH, requires_grad=True)
    few(x, torch.zeros(2, dtype=torch.int64)).backward()
    assert (x.grad == 0).all()


def _refuses_other_rows(head: PartialFC_V2, state: OrderedDict, message: str) -> None:
    """With metadata; without it, as in insightface's files, the same tensors load if they fit."""
    before = head.weight.detach().clone()
    assert message in refusal(RuntimeError, lambda: head.load_state_dict(state))
    assert torch.equal(head.weight, before)
    if state["weight"].shape == before.shape:
        head.load_state_dict(dict(state))
        assert torch.equal(head.weight, state["weight"])
        head.weight.data.copy_(before)


def the_default_group(group: dist.ProcessGroup) -> None:
    """Without `process_group` the ranks are those of the default group, as in insightface."""
    head = PartialFC_V2(ArcFace(), WIDTH, CLASSES)
    assert (head.rank, head.world_size) == (dist.get_rank(), dist.get_world_size())
    data = Data(group)
    want = step(Alone(data.w), data.x, data.labels)
    head.weight.data.copy_(data.w[head.class_start : head.class_start + head.num_local])
    value, dx, _ = step(head, data.x[data.own], data.labels[data.own])
    assert abs(float(value - want[0])) <= 1e-6 * float(want[0])
    assert error(dx, data.world * want[1][data.own]) <= 6e-6


def refused(group: dist.ProcessGroup) -> None:
    data = Data(group)
    head = together(group, data.w)
    x, labels = data.x[data.own], data.labels[data.own].clone()
    assert "wrap the backbone alone" in refusal(
        RuntimeError, lambda: DistributedDataParallel(head, process_group=group)
    )
    whole = DistributedDataParallel(WithHead(head), process_group=group)
    assert "wrap the backbone alone" in refusal(RuntimeError, lambda: whole(x, labels))
    mesh = DeviceMesh.from_group(group, "cpu")
    assert "fully_shard to the backbone alone" in refusal(
        RuntimeError, lambda: fully_shard(together(group, data.w), mesh=mesh)
    )
    flat = FullyShardedDataParallel(
        WithHead(together(group, data.w)), process_group=group, device_id=torch.device("cpu")
    )
    assert "must not be sharded by FSDP" in refusal(RuntimeError, lambda: flat(x, labels))
    if data.rank == 0:
        labels[1] = CLASSES  # the others must not wait for ever
    assert refusal(RuntimeError, lambda: head(x, labels)).startswith(
        f"labels[1] of rank 0: expected 0 to {CLASSES - 1} or ignore_index"
    )
    assert "process_group: expected a ProcessGroup" in refusal(
        TypeError, lambda: PartialFC_V2(ArcFace(), WIDTH, CLASSES, process_group="world")
    )


def refused_together(group: dist.ProcessGroup) -> None:
    """Nobody waits in a collective for a rank whose arguments are wrong, and the next step is as ever."""
    rank, head = dist.get_rank(group), PartialFC_V2(ArcFace(), 4, 10, process_group=group)
    x, labels = torch.randn(3, 4), torch.arange(3)
    for kind, text, wrong in (
        (
            ValueError,
            "PartialFC_V2: labels: expected class indices, got nan",
            (x, torch.tensor([0.0, torch.nan, 1.0])),
        ),
        (ValueError, "PartialFC_V2: labels: expected [3] or [3, 1], got [2]", (x, labels[:2])),
        (ValueError, "PartialFC_V2: embeddings: expected [B, 4], got [3, 5]", (torch.randn(3, 5), labels)),
        (TypeError, "PartialFC_V2: labels: expected a tensor of class indices", (x, [0, 1, 2])),
    ):
        given = wrong if rank == 1 else (x, labels)
        message = refusal(kind, lambda given=given: head(*given))
        assert message.startswith(f"rank 1 of 2: {text}"), message
    assert head(x, labels).isfinite()
