"""Bodies: heads without a process group on several ranks: refused, warned about, or averaged by a wrapper."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs
from basket_softmax.compat import fastreid, pml

from .heads_in_use import refusal
from .ranks import of_every_rank, warnings_with

CLASSES, WIDTH, ROWS = 50, 16, 6


class Net(nn.Module):
    """A backbone and a head in one module, as trainers want it."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Linear(8, WIDTH)
        self.head = head

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.head(self.backbone(x), labels)


class Embedder(Net):
    """The head belongs to the module, but is called from outside."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.backbone(x)


class OfMaps(nn.Module):
    """A head of fast-reid as one of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = fastreid.EmbeddingHead(
            feat_dim=WIDTH, num_classes=CLASSES, cls_type="ArcSoftmax", scale=16, margin=0.2
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.inner(x[..., None, None], labels)["loss_cls"]


HEADS: dict[str, Callable[[], nn.Module]] = {
    "BasketSoftmaxLoss": lambda: bs.BasketSoftmaxLoss([20, 30], WIDTH, mining=bs.TopK(4, 1)),
    "ArcFaceLoss": lambda: bs.ArcFaceLoss(CLASSES, WIDTH),
    "CurricularFaceLoss": lambda: bs.CurricularFaceLoss(CLASSES, WIDTH),
    "EmbeddingHead": OfMaps,
    "pml.ArcFaceLoss": lambda: pml.ArcFaceLoss(CLASSES, WIDTH),
    "pml.CosFaceLoss": lambda: pml.CosFaceLoss(CLASSES, WIDTH),
    "pml.SubCenterArcFaceLoss": lambda: pml.SubCenterArcFaceLoss(CLASSES, WIDTH, sub_centers=2),
}


def batch(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, 8, generator=g), torch.randint(CLASSES, (ROWS,), generator=g)


def fused_is_refused(group: dist.ProcessGroup) -> None:
    """Nothing moves where nobody could average: within DDP however it is made, beside it, and called from outside."""
    torch.manual_seed(0)
    rank, ranks = dist.get_rank(group), dist.get_world_size()
    for options in ({}, {"find_unused_parameters": True}, {"static_graph": True}):
        net = Net(HEADS["ArcFaceLoss"]())
        bs.optim.FusedSGD(net.head, lr=0.1, momentum=0.9)
        start = net.head.full_weight()
        wrapped = DistributedDataParallel(net, process_group=group, **options)
        message = refusal(RuntimeError, lambda wrapped=wrapped: wrapped(*batch(rank)))
        assert "got a head without process_group inside DistributedDataParallel" in message
        assert torch.equal(net.head.weight, start)
        with torch.no_grad():
            assert wrapped(*batch(rank)).isfinite()

    for make in (HEADS["ArcFaceLoss"], HEADS["BasketSoftmaxLoss"], lambda: bs.BasketSoftmaxLoss(
        [CLASSES], WIDTH, margin=torch.sin, sample_rate=0.5)):  # fmt: skip
        head = make()
        bs.optim.FusedSGD(head, lr=0.1)
        x = torch.randn(ROWS, WIDTH, requires_grad=True)
        message = refusal(RuntimeError, lambda head=head, x=x: head(x, batch(rank)[1]))
        assert f"got a head without process_group on one of {ranks} ranks" in message
        assert "process_group=torch.distributed.group.WORLD" in message

    net = Embedder(HEADS["ArcFaceLoss"]())
    bs.optim.FusedSGD(net.head, lr=0.1)
    wrapped = DistributedDataParallel(net, process_group=group, find_unused_parameters=True)
    x, labels = batch(rank)
    assert f"on one of {ranks} ranks" in refusal(RuntimeError, lambda: net.head(wrapped(x), labels))


def fused_on_one_rank_alone(group: dist.ProcessGroup) -> None:
    """The way out that the refusal names: a group of this rank alone trains as torch.optim.SGD in one process."""
    own = dist.new_subgroups(1)[0]
    torch.manual_seed(dist.get_rank())
    plain, fused = (bs.ArcFaceLoss(CLASSES, WIDTH, process_group=g) for g in (None, own))
    fused.load_full_weight(plain.weight)
    settings = {"lr": 0.1, "momentum": 0.9}
    optimizers = torch.optim.SGD([plain.weight], **settings), bs.optim.FusedSGD(fused, **settings)
    for step in range(3):
        labels = batch(step + dist.get_rank())[1]
        x = torch.randn(ROWS, WIDTH)
        for head, optimizer in zip((plain, fused), optimizers, strict=True):
            optimizer.zero_grad()
            head(x, labels).backward()
            optimizer.step()
    torch.testing.assert_close(fused.weight, plain.weight, rtol=1e-5, atol=1e-6)


def warnings_of(call: Callable[[], object]) -> list[str]:
    """The messages that `call()` brings about the gradient of a head."""
    return warnings_with("trains centres of its own", call)


def steps(forward: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
    def run() -> None:
        for seed in range(3):
            forward(*batch(seed)).backward()

    return run


def beside_the_wrapper(group: dist.ProcessGroup, name: str) -> None:
    """One warning a head, in the first forward pass with a gradient; what it warns of is true."""
    torch.manual_seed(0)
    head, rank = HEADS[name](), dist.get_rank(group)
    backbone = DistributedDataParallel(nn.Linear(8, WIDTH), process_group=group)
    x, labels = batch(rank)
    with torch.no_grad():
        assert not warnings_of(lambda: head(backbone(x), labels))
    if name != "EmbeddingHead":  # which gives features in evaluation
        head.eval()  # as an averaged copy, or in validation
        assert not warnings_of(lambda: head(backbone(x), labels))
        head.train()
    for parameter in head.parameters():
        parameter.requires_grad_(False)
    assert not warnings_of(steps(lambda x, labels: head(backbone(x), labels)))
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    found = warnings_of(steps(lambda x, labels: head(backbone(x), labels)))
    assert len(found) == 1, found
    assert found[0].startswith(f"{name.split('.')[-1]}: torch.distributed has {dist.get_world_size()} ranks")
    assert ("process_group=" in found[0]) == (not name.startswith("pml"))
    copied = copy.deepcopy(head)
    assert len(warnings_of(steps(lambda x, labels: copied(backbone(x), labels)))) == 1
    assert len(warnings_of(steps(lambda x, labels: HEADS[name]()(backbone(x), labels)))) == 3  # once each

    head.zero_grad()
    head(backbone(x), labels).backward()
    others = of_every_rank(next(p.grad for p in head.parameters() if p.grad is not None), group)
    assert not torch.allclose(others[0], others[1])


def within_a_wrapper(group: dist.ProcessGroup, name: str) -> None:
    """No warning, and the same gradient on every rank."""
    mesh = DeviceMesh.from_group(group, "cpu")

    def ddp(net: nn.Module, **options: object) -> nn.Module:
        return DistributedDataParallel(net, process_group=group, **options)

    def both(net: Net) -> Callable[[Tensor, Tensor], Tensor]:
        backbone, head = ddp(net.backbone), ddp(net.head)
        return lambda x, labels: head(backbone(x), labels)

    def head_alone(net: Net) -> Callable[[Tensor, Tensor], Tensor]:
        fully_shard(net.head, mesh=mesh)
        return fully_shard(net, mesh=mesh)

    def from_outside(net: Net) -> Callable[[Tensor, Tensor], Tensor]:
        whole = Embedder(net.head)
        wrapped = ddp(whole)
        return lambda x, labels: whole.head(wrapped(x), labels)

    def fsdp1(net: Net) -> nn.Module:
        return FullyShardedDataParallel(net, process_group=group, device_id=torch.device("cpu"))

    def listening(net: Net) -> nn.Module:
        for parameter in net.head.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad, group=group))
        return net

    wrappers: list[Callable[[Net], Callable[[Tensor, Tensor], Tensor]]] = [
        ddp, lambda net: ddp(net, find_unused_parameters=True), lambda net: ddp(net, static_graph=True), both,
        head_alone, lambda net: fully_shard(net, mesh=mesh), from_outside, fsdp1, listening,
        lambda net: torch.compile(ddp(net), backend="eager"),
    ]  # fmt: skip
    for number, wrap in enumerate(wrappers):
        torch.manual_seed(number)
        forward = wrap(Net(HEADS[name]()))
        assert not warnings_of(steps(forward)), number


def ignored_by_ddp(group: dist.ProcessGroup) -> None:
    """A head that DDP was told to leave out is averaged by nobody; a compiled one is noticed as well."""
    net = Net(HEADS["ArcFaceLoss"]())
    net._ddp_params_and_buffers_to_ignore = {"head.weight"}
    assert len(warnings_of(steps(DistributedDataParallel(net, process_group=group)))) == 1
    head = torch.compile(HEADS["ArcFaceLoss"](), backend="eager", fullgraph=True)
    x, labels = torch.randn(ROWS, WIDTH, requires_grad=True), batch(0)[1]
    assert len(warnings_of(lambda: [head(x, labels).backward() for _ in range(3)])) == 1


def class_parallel(group: dist.ProcessGroup) -> None:
    """Neither warned about nor refused."""
    head = bs.ArcFaceLoss(CLASSES, WIDTH, process_group=group)
    optimizer = bs.optim.FusedSGD(head, lr=0.1)
    backbone = DistributedDataParallel(nn.Linear(8, WIDTH), process_group=group)

    def run() -> None:
        for seed in range(2):
            head(backbone(batch(seed)[0]), batch(seed)[1]).backward()
            optimizer.step()

    assert not warnings_of(run)


def averaged_is_one_process(group: dist.ProcessGroup, name: str) -> float:
    """Twenty steps of a plain head inside DDP are those of one process with the whole batch."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    torch.manual_seed(3)
    alone = Net(HEADS[name]())
    ours = copy.deepcopy(alone)
    wrapped = DistributedDataParallel(ours, process_group=group)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.05, momentum=0.9) for n in (alone, ours)]
    for step in range(20):
        parts = [batch(world * step + r) for r in range(world)]
        whole = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        for net, rows, optimizer in zip((alone, wrapped), (whole, parts[rank]), optimizers, strict=True):
            optimizer.zero_grad()
            net(*rows).backward()
            optimizer.step()
    off = [(a - b).norm() / b.norm() for a, b in zip(ours.parameters(), alone.parameters(), strict=True)]
    return float(torch.stack(off).max().detach())


def grown_inside_ddp(group: dist.ProcessGroup) -> None:
    """A step that DDP would not average is refused; a new wrapper is right, also while the old one lives."""
    rank = dist.get_rank(group)
    for before in (0, 2):
        torch.manual_seed(rank)
        net = Net(bs.BasketSoftmaxLoss([CLASSES], WIDTH))
        old = DistributedDataParallel(net, process_group=group)
        for seed in range(before):
            old(*batch(seed)).backward()
        net.head.add_basket("new", 7)
        assert "wrap the model again after add_basket" in refusal(
            RuntimeError, lambda old=old: old(*batch(rank))
        )
        new = DistributedDataParallel(net, process_group=group)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for seed in range(3):
            optimizer.zero_grad()
            new(*batch(10 * rank + seed)).backward()
            optimizer.step()
        every = of_every_rank(net.head.weight, group)
        assert all(torch.equal(each, every[0]) for each in every)
