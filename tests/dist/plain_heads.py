"""Bodies: checkpoints of heads without a process group, and of several groups, from the processes of one torchrun."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

import basket_softmax as bs

from .heads_in_use import refusal

SIZES = {"a": 31, "b": 17}
WIDTH = 8


def rank_0_saves(group: dist.ProcessGroup, folder: str) -> None:
    """The other ranks, who would save theirs over it, are told; all of them load."""
    rank, world = dist.get_rank(group), dist.get_world_size()
    torch.manual_seed(rank)
    head = bs.BasketSoftmaxLoss(SIZES, WIDTH)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(5):
        if rank == 0:
            bs.checkpoint.save(folder, head, optimizer, extra={"rank": rank})
        else:
            message = refusal(
                bs.checkpoint.CheckpointError,
                lambda: bs.checkpoint.save(folder, head, optimizer, extra={"rank": rank}),
            )
            assert message.startswith(
                f"save was called on rank {rank} of {world} for a head without a process group"
            )
            assert "expected is rank 0 alone (if torch.distributed.get_rank() == 0)" in message
    dist.barrier(group)
    assert bs.checkpoint.load(folder, head, optimizer) == {"rank": 0}
    torch.manual_seed(0)
    assert torch.equal(head.weight, bs.BasketSoftmaxLoss(SIZES, WIDTH).weight)
    assert len(list(Path(folder).glob("data-*"))) == 1


def heads_of_one_rank(group: dist.ProcessGroup, folder: str) -> None:
    """What the message advises for heads that differ on purpose; and all of them to one folder, at the same time."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    own = [dist.new_group([r]) for r in range(world)][rank]
    head = bs.BasketSoftmaxLoss(SIZES, WIDTH, process_group=own)
    head.weight.data.fill_(rank)
    bs.checkpoint.save(Path(folder, str(rank)), head, extra={"rank": rank})
    again = bs.BasketSoftmaxLoss(SIZES, WIDTH)
    assert bs.checkpoint.load(Path(folder, str(rank)), again) == {"rank": rank}
    assert (again.weight == rank).all()
    _one_folder(Path(folder, "all"), head, rank, group)


def groups_to_one_folder(group: dist.ProcessGroup, folder: str) -> None:
    """Two trainings of two ranks each."""
    rank = dist.get_rank(group)
    own = [dist.new_group([0, 1]), dist.new_group([2, 3])][rank // 2]
    head = bs.BasketSoftmaxLoss(SIZES, WIDTH, process_group=own)
    head.weight.data.fill_(rank // 2)
    _one_folder(Path(folder, "all"), head, rank // 2, group)


def _one_folder(folder: Path, head: bs.BasketSoftmaxLoss, number: int, group: dist.ProcessGroup) -> None:
    """Everybody saves and loads there; what is loaded is always of one writer."""
    for _ in range(16):
        bs.checkpoint.save(folder, head, extra={"number": number})
        found = bs.checkpoint.load(folder, head)["number"]
        assert (head.weight == found).all()
        head.weight.data.fill_(number)
    dist.barrier(group)
    assert (folder / "checkpoint.json").exists()
    dist.barrier(group)
    if dist.get_rank(group) == 0:
        alone = bs.BasketSoftmaxLoss(SIZES, WIDTH)
        found = bs.checkpoint.load(folder, alone)["number"]
        assert (alone.weight == found).all()
