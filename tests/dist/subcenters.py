"""Bodies: sub-centres over ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist

import basket_softmax as bs
from bbs_kernels.sharding import Sharding

from .heads import Case, Pair


def weights(group: dist.ProcessGroup, shard: str) -> None:
    """A class's sub-centres stay together, and one seed gives one set of centres at every world size."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    sizes = (97, 0, 31, 1, 111)
    torch.manual_seed(5)
    alone = bs.BasketSoftmaxLoss(sizes, 24, subcenters=3)
    torch.manual_seed(5)
    head = bs.BasketSoftmaxLoss(sizes, 24, subcenters=3, process_group=group, shard=shard)
    assert len(head.weight) == 3 * Sharding(sizes, world, shard).num_local(rank)
    assert torch.equal(head.full_weight(), alone.weight)
    centres = torch.randn_like(alone.weight)
    head.load_full_weight(centres)
    alone.load_full_weight(centres)
    assert torch.equal(head.full_weight(), centres)
    fresh = torch.randn(15, 24)  # the same on every rank
    x = torch.randn(3 + rank, 24)
    assert torch.equal(head.logits(x, slice(1, 9)), alone.logits(x, slice(1, 9)))

    for grown in (alone, head):
        grown.add_basket("new", 5, init=fresh)
    assert torch.equal(head.full_weight(), torch.cat([centres, fresh]))
    assert torch.equal(head.full_weight(), alone.weight)


def save(group: dist.ProcessGroup, folder: str, shard: str) -> None:
    """After a step, so that there is momentum; rank 0 also keeps the whole, to compare with."""
    torch.manual_seed(5)
    head = bs.BasketSoftmaxLoss((97, 0, 31), 12, subcenters=3, process_group=group, shard=shard)
    optimizer = torch.optim.Adam([head.weight])
    head(torch.randn(9, 12), torch.randint(128, (9,))).backward()
    optimizer.step()
    bs.checkpoint.save(f"{folder}/checkpoint", head, optimizer)
    whole = [head.full_weight(), full(head, optimizer)]
    if dist.get_rank(group) == 0:
        torch.save(whole, f"{folder}/whole.pt")


def load(group: dist.ProcessGroup, folder: str, shard: str) -> None:
    head = bs.BasketSoftmaxLoss((97, 0, 31), 12, subcenters=3, process_group=group, shard=shard)
    optimizer = torch.optim.Adam([head.weight])
    bs.checkpoint.load(f"{folder}/checkpoint", head, optimizer)
    weight, moments = torch.load(f"{folder}/whole.pt")
    assert torch.equal(head.full_weight(), weight)
    assert torch.equal(full(head, optimizer), moments)


def full(head: bs.BasketSoftmaxLoss, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    moments = optimizer.state[head.weight]["exp_avg"]
    return head.placement.full_rows(head._by_class(moments)).view(-1, 12)


def fused(group: dist.ProcessGroup, rate: float) -> None:
    """FusedSGD moves the shard as torch.optim.SGD does, bit for bit."""
    options = {"subcenters": 3, "sample_rate": rate, "sparse_grad": True}
    pair = Pair(group, Case(mates=True, options=options))
    plain, ours = pair.head(True), pair.head(True)
    settings = {"lr": 0.3} if rate < 1 else {"lr": 0.3, "weight_decay": 1e-3, "momentum": 0.9}
    sgd, one = torch.optim.SGD([plain.weight], **settings), bs.optim.FusedSGD(ours, **settings)
    for _ in range(2):
        for head, optimizer in ((plain, sgd), (ours, one)):
            optimizer.zero_grad()
            torch.manual_seed(3)
            head(pair.problem.x[pair.own], pair.problem.labels[pair.own]).backward()
            optimizer.step()
        assert torch.equal(plain.weight, ours.weight)
