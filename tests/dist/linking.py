"""Bodies: aliases that change while a class-parallel head runs, and a linker over ranks against one in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import basket_softmax as bs
from bbs_kernels.sharding import Sharding

from .agree import check_step
from .heads import Case, Pair
from .heads_in_use import refusal

SIZES, WIDTH, ROWS = (23, 0, 17, 1, 31), 16, 60


def new_aliases(group: dist.ProcessGroup, kind: str) -> None:
    """The step after `set_aliases` is that of one process with these aliases."""
    pair = Pair(group, Case(shard=kind, mates=True))
    wanted = pair.problem.aliases
    together, alone = pair.head(True, grad_average=False, aliases=None), pair.head(False, aliases=None)
    together.set_aliases(torch.zeros_like(wanted))
    for head in (together, alone):
        head.set_aliases(wanted)
    assert torch.equal(together.aliases, together.placement.own_part(wanted))
    check_step(pair, pair.step_together(together), pair.step_alone(alone))

    def gradient(change: bool, in_place: bool = False) -> torch.Tensor:
        x = pair.problem.x[pair.own].clone().requires_grad_()
        together.set_aliases(wanted)
        value = together(x, pair.problem.labels[pair.own])
        if change:
            together.set_aliases(torch.zeros_like(wanted), in_place=in_place)
        return torch.autograd.grad(value, x)[0]

    assert torch.equal(gradient(True), gradient(False)), "backward with other aliases than forward"
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(True, in_place=True)


class People:
    """Classes of several baskets that show the same people, and batches of their embeddings in two halves of the space:
    who it is, and which basket it is from."""

    def __init__(self, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.person = torch.cat([torch.randperm(40, generator=draw)[:size] for size in SIZES])
        self.faces = torch.nn.functional.normalize(torch.randn(40, WIDTH, generator=draw))
        self.styles = 0.6 * torch.nn.functional.normalize(torch.randn(len(SIZES), WIDTH, generator=draw))
        self.basket = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch.Generator().manual_seed(1000 + step)
        labels = torch.randint(-1, len(self.person), (ROWS,), generator=draw)
        x = self.faces[self.person[labels]] + self.styles[self.basket[labels]]
        return x + 0.03 * torch.randn(ROWS, WIDTH, generator=draw), labels


def head(group: dist.ProcessGroup | None, kind: str = "basket", **options) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss(
        SIZES, WIDTH, process_group=group, shard=kind, mining=bs.TopK(4, 1), **options
    )


def like_one_process(group: dist.ProcessGroup, kind: str, known: bool) -> None:
    """The same prototypes, links and aliases, whoever brings the rows; labels are exchanged within an identity."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    people = People()
    aliases = torch.full((len(people.person),), -1)
    if known:
        aliases[[0, 30]] = 5
    heads = head(None, aliases=aliases), head(group, kind, aliases=aliases)
    settings = {"share": 0.8, "exclude": 0.7, "every": 7, "start": 3, "probability": 0.5}
    alone, together = (bs.IdentityLinker(each, **settings) for each in heads)
    cut = [
        round(ROWS * (r / world) ** 1.5) for r in range(world + 1)
    ]  # ragged, and nothing for rank 0 of many
    changed = 0
    for step in range(25):
        x, labels = people.batch(step)
        alone(x, labels)
        mine = slice(cut[rank], cut[rank + 1])
        given = labels[mine]
        shared = together(x[mine], given)
        same = (shared == given) | (alone.shared[shared] == alone.shared[given])
        assert same.all()
        assert torch.equal(shared < 0, given < 0)
        changed += int((shared != given).sum())
        torch.testing.assert_close(
            together.prototypes, heads[1].placement.own_part(alone.prototypes), rtol=0, atol=2e-6
        )
        assert torch.equal(together.excluded, alone.excluded)
        assert torch.equal(together.shared, alone.shared)
        assert heads[1].aliases is None or torch.equal(
            heads[1].aliases, heads[1].placement.own_part(heads[0].aliases)
        )
    total = torch.tensor(changed)
    dist.all_reduce(total, group=group)
    assert total > 100
    assert (alone.shared >= 0).sum() > 40
    if known:
        assert alone.shared[0] == alone.shared[30] >= 0


def goes_on(group: dist.ProcessGroup, kind: str) -> None:
    """A basket joins, then a state is saved and loaded: prototypes and links of the old classes are where they were."""
    people = People()
    loss = head(group, kind)
    linker = bs.IdentityLinker(loss, share=0.8, exclude=0.7, every=5)
    for step in range(12):
        linker(*people.batch(step))
    before = loss.placement.full_rows(linker.prototypes)
    links = linker.shared.clone()
    loss.add_basket("new", 9)
    linker(*people.batch(12))  # not a step that matches
    after = loss.placement.full_rows(linker.prototypes)
    assert len(after) == len(before) + 9
    assert len(linker.prototypes) == Sharding(loss.baskets.sizes, dist.get_world_size(group), kind).num_local(
        dist.get_rank(group)
    )
    assert (after[-9:] == 0).all()
    again = torch.nn.functional.cosine_similarity(after[: len(before)], before, dim=1)
    assert (again[before.norm(dim=1) > 0] > 0.99).all()
    assert torch.equal(linker.shared, torch.cat([links, torch.full((9,), -1)]))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(linker.state_dict(), Path(folder) / "state.pt")
        state = torch.load(Path(folder) / "state.pt")
    torch.manual_seed(0)
    other = bs.BasketSoftmaxLoss(loss.baskets, WIDTH, process_group=group, shard=kind)
    resumed = bs.IdentityLinker(other, share=0.8, exclude=0.7, every=5)
    resumed.load_state_dict(state)
    assert torch.equal(other.aliases, loss.aliases)
    if dist.get_world_size(group) > 1:
        state._metadata[""]["baskets"]["part"]["rank"] += 1
        assert f"the part of rank {dist.get_rank(group) + 1} of " in refusal(
            RuntimeError, lambda: resumed.load_state_dict(state)
        )
    for step in range(13, 20):
        x, labels = people.batch(step)
        assert torch.equal(linker(x, labels), resumed(x, labels))
    assert torch.equal(linker.prototypes, resumed.prototypes)
