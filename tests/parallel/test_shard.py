"""A shard's arithmetic on tensors is that of `Sharding` on integers; mates are counted over shards and baskets."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from bbs_kernels.class_parallel import ClassShard, draw_shard, own_part
from bbs_kernels.class_parallel.aliases import mate_counts
from bbs_kernels.sharding import Sharding

SIZES = (7, 0, 1, 30, 2)


@pytest.mark.parametrize("kind", ["basket", "contiguous"])
@pytest.mark.parametrize("world", [1, 2, 3, 7, 64])
def test_labels_and_classes(world: int, kind: str) -> None:
    sharding = Sharding(SIZES, world, kind)
    labels = torch.tensor([*range(40), -1, 40, -7])
    for rank in range(world):
        shard = ClassShard(sharding, rank)
        basket = shard.basket_of(labels)
        basket[40] = -1
        local = shard.local_labels(labels, basket).tolist()
        here = {sharding.to_global(rank, row): row for row in range(sharding.num_local(rank))}
        assert local[:40] == [here.get(c, -1) for c in range(40)]
        assert local[40:] == [-1, shard.num_local, shard.num_local]  # ignored, and two that do not exist
        edges = shard.offsets.tolist()
        longest = max(b - a for a, b in pairwise(edges))
        rows = torch.full((5, longest), -1)
        for b in range(5):
            rows[b, : edges[b + 1] - edges[b]] = torch.arange(edges[b], edges[b + 1])
        back = shard.global_index(rows)
        assert back[rows >= 0].tolist() == sorted(here)
        assert (back[rows < 0] == -1).all()


@pytest.mark.parametrize("sampled", [False, True])
def test_mates(sampled: bool) -> None:
    g = torch.Generator().manual_seed(1)
    aliases, wanted = torch.randint(-2, 6, (40,), generator=g), torch.tensor([3, -1, 0, 5, 3, 9, -2])
    offsets = torch.tensor([0, 7, 7, 8, 38, 40])
    index = torch.arange(0, 40, 3) if sampled else None
    got = mate_counts(aliases, offsets, wanted.clamp_min(-1), index)
    used = torch.arange(40) if index is None else index
    for i, alias in enumerate(wanted.tolist()):
        for b in range(5):
            inside = (used >= offsets[b]) & (used < offsets[b + 1])
            want = 0 if alias < 0 else int((aliases[used][inside] == alias).sum())
            assert int(got[i, b]) == want


def test_no_mates_without_rows_or_classes() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert mate_counts(torch.arange(4), torch.tensor([0, 4]), none, None).shape == (0, 1)
    assert mate_counts(none, torch.tensor([0, 0]), torch.tensor([1]), None).tolist() == [[0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(40, 3), (40, 16), (40, 1)])
def test_shards_of_one_draw(shape: tuple[int, int], dtype: torch.dtype, monkeypatch) -> None:
    """In blocks of 16 rows as in one, though torch draws the end of a tensor anew."""
    monkeypatch.setattr("bbs_kernels.class_parallel.weights._BLOCK", 16)
    torch.manual_seed(3)
    full = torch.empty(shape, dtype=dtype).normal_(std=0.01)
    for kind in ("basket", "contiguous"):
        for rank in range(3):
            shard = ClassShard(Sharding(SIZES, 3, kind), rank)
            weight = torch.empty(shard.num_local, shape[1], dtype=dtype)
            torch.manual_seed(3)
            draw_shard(weight, shard, 0.01)
            assert torch.equal(weight, own_part(full, shard))
