"""Bodies: a head without a process group under FSDP, beside its step: whole, or refused in words."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard

import basket_softmax as bs
from basket_softmax.compat import pml

from .heads_in_use import refusal
from .replicated import CLASSES, ROWS, WIDTH, Net, batch


def sharded(group: dist.ProcessGroup, **options: object) -> Net:
    """A net under fully_shard whose head has taken a step; the centres differ from those of other calls."""
    torch.manual_seed(dist.get_rank(group))
    net = fully_shard(
        Net(bs.ArcFaceLoss(CLASSES, WIDTH, **options)), mesh=DeviceMesh.from_group(group, "cpu")
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(*batch(dist.get_rank(group))).backward()
    optimizer.step()
    return net


def centres(head: bs.BasketSoftmaxLoss) -> Tensor:
    """What torch puts together."""
    return head.weight.full_tensor().detach()


def whole(group: dist.ProcessGroup, subcenters: int) -> None:
    """full_weight, load_full_weight and logits are those of a plain head; a new rule keeps its running means plain."""
    net = sharded(group, subcenters=subcenters)
    head, plain = net.head, bs.ArcFaceLoss(CLASSES, WIDTH, subcenters=subcenters)
    full = head.full_weight()
    assert type(full) is Tensor
    assert torch.equal(full, centres(head))
    plain.load_full_weight(full)
    x = torch.randn(5, WIDTH)
    for classes in (slice(None), slice(3, 9), torch.tensor([0, CLASSES - 1, 4])):
        assert torch.equal(head.logits(x, classes), plain.logits(x, classes))

    torch.manual_seed(7)
    wanted = torch.randn(CLASSES * subcenters, WIDTH, dtype=torch.float64)
    head.load_full_weight(wanted)
    assert torch.equal(centres(head), wanted.float())
    assert "weight: expected shape" in refusal(ValueError, lambda: head.load_full_weight(wanted[1:]))
    net(*batch(0)).backward()  # goes on with them

    head.mining = bs.TopK(4, 1, bs.Ema(0.5))
    assert type(head.ema) is Tensor
    net(*batch(0)).backward()
    assert head.ema.isfinite().all()


def between_forward_and_backward(group: dist.ProcessGroup) -> None:
    """After evaluation the gathered copy stays in place: what is written there would be lost."""
    net = sharded(group)
    assert isinstance(net, FSDPModule)
    before, wanted = centres(net.head), torch.ones(CLASSES, WIDTH)
    with torch.no_grad():
        net(*batch(0))
    assert torch.equal(net.head.full_weight(), before)
    assert net.head.logits(torch.randn(2, WIDTH), slice(2)).shape == (2, 2)
    message = refusal(RuntimeError, lambda: net.head.load_full_weight(wanted))
    assert "call reshard() on the module that fully_shard returned" in message
    net.reshard()
    assert torch.equal(centres(net.head), before)
    net.head.load_full_weight(wanted)
    assert torch.equal(centres(net.head), wanted)


def of_pml(group: dist.ProcessGroup) -> None:
    """get_logits and get_outliers of a head of pytorch-metric-learning's kind are those of a plain one."""
    torch.manual_seed(0)
    plain = pml.SubCenterArcFaceLoss(CLASSES, WIDTH, sub_centers=2)
    net = Net(copy.deepcopy(plain))
    fully_shard(net, mesh=DeviceMesh.from_group(group, "cpu"))
    x, labels = torch.randn(ROWS, WIDTH), batch(0)[1]
    assert torch.equal(net.head.get_logits(x), plain.get_logits(x))
    for got, want in zip(net.head.get_outliers(x, labels), plain.get_outliers(x, labels), strict=True):
        assert torch.equal(got, want)
    net(*batch(0)).backward()


def refused(group: dist.ProcessGroup, folder: str) -> None:
    """Checkpoints and growth, gathered or not; and the ways that the messages name work."""
    rank, own = dist.get_rank(group), Path(folder)
    net = sharded(group)
    head, optimizer = net.head, torch.optim.SGD(net.parameters(), lr=0.1)
    plain = bs.ArcFaceLoss(CLASSES, WIDTH)
    if rank == 0:
        bs.checkpoint.save(own / "plain", plain)
    dist.barrier(group)
    before = centres(head)
    for forward in (False, True):
        if forward:
            with torch.no_grad():
                net(*batch(0))
        for call in (
            lambda: bs.checkpoint.save(own / "no", head),
            lambda: bs.checkpoint.save(own / "no", head, optimizer),
            lambda: bs.checkpoint.load(own / "plain", head),
        ):
            message = refusal(bs.checkpoint.CheckpointError, call)
            assert "got a head that fully_shard holds" in message
        assert not (own / "no").exists()
        fused = refusal(RuntimeError, lambda: bs.optim.FusedSGD(head, lr=0.1))
        assert "expected a head that FSDP does not hold" in fused
        for call, grow in (
            ("add_basket", lambda: head.add_basket("new", 5)),
            ("ClassMeans", lambda: bs.ClassMeans(head, 5)),
        ):
            message = refusal(RuntimeError, grow)
            assert message.startswith(f"{call}: expected a head whose centres are all in this process")
            assert "add the basket first, then apply FSDP" in message
    net.reshard()
    assert torch.equal(centres(head), before)
    assert head.baskets == bs.Baskets([CLASSES])

    plain.load_full_weight(head.full_weight())
    if rank == 0:
        bs.checkpoint.save(own / "yes", plain)
    dist.barrier(group)
    again, other = bs.ArcFaceLoss(CLASSES, WIDTH), sharded(group)
    bs.checkpoint.load(own / "yes", again)
    other.head.load_full_weight(again.weight)
    assert torch.equal(centres(other.head), before)


def flat(group: dist.ProcessGroup, folder: str) -> None:
    """FullyShardedDataParallel: refused outside of summon_full_params, where everything works."""
    for use_orig_params in (False, True):
        torch.manual_seed(1)
        net = Net(bs.ArcFaceLoss(CLASSES, WIDTH))
        start = net.head.full_weight()
        model = FullyShardedDataParallel(
            net, process_group=group, device_id=torch.device("cpu"), use_orig_params=use_orig_params
        )
        head: bs.BasketSoftmaxLoss = model.module.head
        x = torch.randn(2, WIDTH)
        reads = [head.full_weight, lambda head=head, x=x: head.logits(x, slice(3))]
        writes = [
            lambda head=head: head.load_full_weight(torch.ones(CLASSES, WIDTH)),
            lambda head=head: head.add_basket("new", 5),
        ]
        for call in reads + writes:
            assert "got a head that FullyShardedDataParallel holds" in refusal(RuntimeError, call)
        with torch.no_grad():
            model(*batch(0))  # may leave a whole copy there, which nobody keeps
        for call in writes:
            assert "got a head that FullyShardedDataParallel holds" in refusal(RuntimeError, call)
        assert "got a head that FullyShardedDataParallel holds" in refusal(
            bs.checkpoint.CheckpointError, lambda head=head: bs.checkpoint.save(Path(folder) / "no", head)
        )
        with FullyShardedDataParallel.summon_full_params(model):
            assert torch.equal(head.full_weight(), start)
            assert head.logits(x, slice(3)).shape == (2, 3)
            head.load_full_weight(2 * start)
        model(*batch(0)).backward()
        with FullyShardedDataParallel.summon_full_params(model):
            assert torch.equal(head.full_weight(), 2 * start)
