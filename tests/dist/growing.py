"""Heads that get a basket while they train: several ranks against one process, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import basket_softmax as bs

BASKETS = {"a": 31, "b": 17, "c": 1, "d": 48}
NEW, WIDTH = 13, 12
OPTIMIZERS: dict[str, Any] = {
    "momentum": lambda head: torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9),
    "adamw": lambda head: torch.optim.AdamW(head.parameters(), lr=1e-2, amsgrad=True),
    "fused": lambda head: bs.optim.FusedSGD(head, 0.1, momentum=0.9),
}


def batch(step: int, rank: int, classes: int, rows: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(step * 100 + rank)
    return torch.randn(rows, WIDTH, generator=draw), torch.randint(0, classes, (rows,), generator=draw)


def trained(group: dist.ProcessGroup | None, kind: str, optimizer: str, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    head = bs.BasketSoftmaxLoss(
        BASKETS, WIDTH, mining=bs.TopK(4, guard=bs.Ema(0.5)), process_group=group, shard=kind, **options
    )
    made = OPTIMIZERS[optimizer](head)
    rank = dist.get_rank(group) if group is not None else 0
    for step in range(2):
        go(head, made, step, rank)
    return head, made


def go(head: Any, optimizer: Any, step: int, rank: int) -> None:
    optimizer.zero_grad()
    head(*batch(step, rank, head.num_classes)).backward()
    optimizer.step()


def state_rows(head: Any, optimizer: Any) -> dict[str, torch.Tensor]:
    """Full tensors, on every rank: the centres and the optimiser's rows."""
    own = {"weight": head.weight.detach()}
    for key, value in optimizer.state[head.weight].items():
        if isinstance(value, torch.Tensor) and value.dim() > 0:
            own[key] = value
    return {key: head.placement.full_rows(value) for key, value in own.items()}


def old_rows_stay(group: dist.ProcessGroup, kind: str, optimizer: str) -> None:
    head, made = trained(group, kind, optimizer, aliases=torch.arange(97) // 2)
    alive = head(*batch(9, 0, 97))
    before, weight, ema = state_rows(head, made), head.weight, head.ema.clone()
    given = torch.randn(NEW, WIDTH, generator=torch.Generator().manual_seed(5))
    head.add_basket("new", NEW, init=given, optimizer=None if optimizer == "fused" else made)
    assert head.weight is weight
    assert head.num_classes == 110
    after = state_rows(head, made)
    assert after.keys() == before.keys()
    for key, value in after.items():
        assert torch.equal(value[:97], before[key]), key
        assert torch.equal(value[97:], given if key == "weight" else torch.zeros(NEW, WIDTH)), key
    assert torch.equal(head.ema[:4], ema)
    assert head.ema[4].isinf()
    aliases = head.placement.full_rows(head.aliases)
    assert aliases.tolist() == [*(torch.arange(97) // 2).tolist(), *[-1] * NEW]
    del alive
    go(head, made, 3, dist.get_rank(group))
    assert head.full_weight().isfinite().all()


def like_one_process(group: dist.ProcessGroup, kind: str) -> None:
    """Random centres and class means are those of one process, and the loss afterwards is as well."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    together, alone = trained(group, kind, "momentum")[0], trained(None, kind, "momentum")[0]
    alone.load_full_weight(together.full_weight())
    alone.ema.copy_(together.ema)
    for init in ("random", "means"):
        means: list[Any] = ["random", "random"]
        if init == "means":
            means = [bs.ClassMeans(head, NEW) for head in (together, alone)]
            for step in range(2):
                counts = [(3 * step + r) % 5 for r in range(world)]
                parts = [batch(50 + step, r, NEW - 1, counts[r]) for r in range(world)]
                means[0].update(*parts[rank])
                means[1].update(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
        for head, given in zip((together, alone), means, strict=True):
            torch.manual_seed(7)
            head.add_basket(init, NEW, init=given)
        assert torch.equal(together.full_weight(), alone.weight), init
    parts = [batch(70, r, alone.num_classes) for r in range(world)]
    got = together(*parts[rank])
    want = alone(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def heads_resume(group: dist.ProcessGroup, folder: str, saved: bool, kind: str, optimizer: str) -> None:
    """Save at one number of ranks, or load what another saved and compare every row."""
    path = Path(folder, f"{kind}-{optimizer}")
    head, made = trained(group, kind, optimizer)
    if saved:
        bs.checkpoint.save(path, head, made)
        full = {**state_rows(head, made), "ema": head.ema}
        if dist.get_rank(group) == 0:
            torch.save(full, path / "full.pt")
        return
    for other in ("basket", "contiguous"):
        path = Path(folder, f"{other}-{optimizer}")
        want = torch.load(path / "full.pt", weights_only=True)
        head.load_full_weight(torch.zeros(97, WIDTH))
        bs.checkpoint.load(path, head, made)
        for key, value in {**state_rows(head, made), "ema": head.ema}.items():
            assert torch.equal(value, want[key]), (key, other, kind)


def continues(group: dist.ProcessGroup, folder: str, kind: str, optimizer: str) -> None:
    """Bit for bit at the same number of ranks."""
    head, made = trained(group, kind, optimizer)
    bs.checkpoint.save(folder, head, made)
    again, made_again = trained(group, kind, optimizer)
    go(again, made_again, 40, dist.get_rank(group))
    bs.checkpoint.load(folder, again, made_again)
    for step in (2, 3):
        go(head, made, step, dist.get_rank(group))
        go(again, made_again, step, dist.get_rank(group))
    for (key, value), other in zip(
        state_rows(head, made).items(), state_rows(again, made_again).values(), strict=True
    ):
        assert torch.equal(value, other), key
    assert torch.equal(head.ema, again.ema)


def goes_on_elsewhere(group: dist.ProcessGroup, folder: str, kind: str, optimizer: str) -> torch.Tensor:
    """What two further steps on the same global batches make of a checkpoint, at this number of ranks."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    head, made = trained(group, kind, optimizer)
    if not Path(folder, "checkpoint.json").exists():
        dist.barrier(group)
        bs.checkpoint.save(folder, head, made)
    bs.checkpoint.load(folder, head, made)
    own = slice(12 * rank // world, 12 * (rank + 1) // world)
    for step in (2, 3):
        x, labels = batch(step, 0, head.num_classes, rows=12)
        made.zero_grad()
        head(x[own], labels[own]).backward()
        made.step()
    return head.full_weight()


def no_rows_for_all(group: dist.ProcessGroup, folder: str) -> None:
    """Adafactor's column variances are those of one rank's classes: refused in both directions."""
    head, _ = trained(group, "basket", "momentum")
    made = torch.optim.Adafactor(head.parameters())
    go(head, made, 2, dist.get_rank(group))
    with pytest.raises(bs.checkpoint.CheckpointError, match=r"'col_var' has shape .* cannot be sharded"):
        bs.checkpoint.save(folder, head, made)
    if dist.get_rank(group) == 0:
        alone, _ = trained(None, "basket", "momentum")
        other = torch.optim.Adafactor(alone.parameters())
        go(alone, other, 2, 0)
        bs.checkpoint.save(folder, alone, other)
    dist.barrier(group)
    before = head.full_weight()
    with pytest.raises(bs.checkpoint.CheckpointError, match=r"'col_var' has shape .* cannot be sharded"):
        bs.checkpoint.load(folder, head, made)
    assert torch.equal(head.full_weight(), before)
    bs.checkpoint.load(folder, head)


def states_know_their_part(group: dist.ProcessGroup, kind: str) -> None:
    """A plain state_dict is one rank's part: the other ranks' and one process's are refused, its own loads."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    head = trained(group, kind, "momentum")[0]
    before = head.weight.detach().clone()
    state = head.state_dict()
    assert list(state) == ["weight", "ema"]
    head.load_state_dict(state)
    whole = bs.BasketSoftmaxLoss(BASKETS, WIDTH, mining=bs.TopK(4, guard=bs.Ema(0.5))).state_dict()
    if world == 1:
        head.load_state_dict(whole)
        return
    refused(head, whole, f"weight is whole there, the part of rank {rank} of {world}")
    state._metadata[""]["baskets"]["part"]["rank"] = (rank + 1) % world
    refused(head, state, f"weight is the part of rank {(rank + 1) % world} of {world} .* there")
    assert torch.equal(head.weight, before)


def refused(head: Any, state: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        head.load_state_dict(state)
