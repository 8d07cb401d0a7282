"""Which rank owns which class: a partition in order, the same both ways, and copies that miss nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bbs_kernels.sharding import KINDS, Sharding, conversion

SIZES = st.lists(st.one_of(st.sampled_from([0, 1, 2, 31, 97]), st.integers(0, 200)), min_size=1, max_size=7)
WORLDS = st.integers(1, 64)
KIND = st.sampled_from(KINDS)


def owned(sharding: Sharding, rank: int) -> list[int]:
    return [c for start, stop in sharding.ranges(rank) for c in range(start, stop)]


@given(SIZES, WORLDS, KIND)
@example([0], 1, "basket")
@example([0, 0], 64, "contiguous")
@example([1], 64, "basket")
@example([3, 1, 2], 64, "contiguous")
def test_every_class_is_owned_once_and_in_order(sizes: list[int], world: int, kind: str) -> None:
    sharding = Sharding(tuple(sizes), world, kind)
    shards = [owned(sharding, rank) for rank in range(world)]
    assert all(shard == sorted(shard) for shard in shards)
    assert sorted(c for shard in shards for c in shard) == list(range(sum(sizes)))
    for rank, shard in enumerate(shards):
        assert len(shard) == sharding.num_local(rank) == sharding.local_offsets(rank)[-1]


@given(SIZES, WORLDS, KIND)
@example([0, 1, 0, 5], 3, "contiguous")
def test_global_and_local_are_inverse(sizes: list[int], world: int, kind: str) -> None:
    sharding = Sharding(tuple(sizes), world, kind)
    for rank in range(world):
        for local, index in enumerate(owned(sharding, rank)):
            assert sharding.to_local(index) == (rank, local)
            assert sharding.to_global(rank, local) == index


@given(SIZES, WORLDS, KIND)
def test_ranges_lie_in_their_basket(sizes: list[int], world: int, kind: str) -> None:
    sharding = Sharding(tuple(sizes), world, kind)
    offsets = sharding.offsets
    for rank in range(world):
        edges = sharding.local_offsets(rank)
        for b, (start, stop) in enumerate(sharding.ranges(rank)):
            assert offsets[b] <= start <= stop <= offsets[b + 1]
            assert edges[b + 1] - edges[b] == stop - start


@pytest.mark.parametrize("world", range(1, 65))
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 97, 1000])
def test_cuts_as_torch_does(size: int, world: int) -> None:
    chunks = torch.arange(size).chunk(world) if size else ()
    want = [chunk.tolist() for chunk in chunks] + [[]] * (world - len(chunks))
    assert [owned(Sharding((size,), world, "contiguous"), rank) for rank in range(world)] == want
    assert [owned(Sharding((size,), world, "basket"), rank) for rank in range(world)] == want


def test_small_baskets_do_not_pile_up_on_the_first_rank() -> None:
    sharding = Sharding((1,) * 64, 16)
    assert {sharding.num_local(rank) for rank in range(16)} == {4}


def test_rows_of_a_batch_from_one_basket_are_spread() -> None:
    sharding = Sharding((1000, 1000), 4)
    assert [stop - start for start, stop in (sharding.ranges(r)[1] for r in range(4))] == [250] * 4
    assert sharding.ranges(0) == ((0, 250), (1750, 2000))
    assert Sharding((1000, 1000), 4, "contiguous").ranges(0) == ((0, 500), (1000, 1000))


def test_by_hand() -> None:
    sharding = Sharding((5, 0, 3), 2)
    assert sharding.offsets == (0, 5, 5, 8)
    assert sharding.chunks == (3, 1, 2)
    assert [sharding.ranges(r) for r in range(2)] == [((0, 3), (5, 5), (5, 7)), ((3, 5), (5, 5), (7, 8))]
    assert sharding.local_offsets(1) == (0, 2, 2, 3)
    assert Sharding((5, 0, 3), 2, "contiguous").ranges(1) == ((4, 5), (5, 5), (5, 8))


@given(SIZES, st.lists(st.integers(0, 40), max_size=2), WORLDS, WORLDS, KIND, KIND)
@example([0], [0], 1, 1, "basket", "contiguous")
@example([97, 31], [], 4, 3, "basket", "basket")
def test_conversion_moves_every_class_once(
    sizes: list[int], more: list[int], world: int, new_world: int, kind: str, new_kind: str
) -> None:
    old, new = Sharding(tuple(sizes), world, kind), Sharding((*sizes, *more), new_world, new_kind)
    before = [owned(old, rank) for rank in range(world)]
    after: list[list[int | None]] = [[None] * new.num_local(rank) for rank in range(new_world)]
    for copy in conversion(old, new):
        assert copy.length > 0
        rows = slice(copy.target_start, copy.target_start + copy.length)
        assert after[copy.target_rank][rows] == [None] * copy.length, "written twice"
        after[copy.target_rank][rows] = before[copy.source_rank][
            copy.source_start : copy.source_start + copy.length
        ]
    for rank, rows in enumerate(after):
        assert rows == [c if c < old.num_classes else None for c in owned(new, rank)]


def test_the_same_sharding_is_copied_piece_by_piece() -> None:
    sharding = Sharding((1000, 10), 4)
    copies = conversion(sharding, sharding)
    assert len(copies) == 8
    assert all(c.source_rank == c.target_rank and c.source_start == c.target_start for c in copies)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 1), r"sizes: expected at least one size, each >= 0, got \(\)"),
        (((3, -1), 1), r"sizes: expected .*, each >= 0, got \(3, -1\)"),
        (((3,), 0), "world: expected a number of ranks from 1, got 0"),
        (((3,), 1, "row"), "kind: expected 'basket' or 'contiguous', got 'row'"),
    ],
)
def test_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sharding(*arguments)


def test_indices_out_of_range_are_named() -> None:
    sharding = Sharding((5, 3), 2)
    with pytest.raises(ValueError, match="index: expected 0 to 7, got 8"):
        sharding.to_local(8)
    with pytest.raises(ValueError, match="rank: expected 0 to 1, got 2"):
        sharding.ranges(2)
    with pytest.raises(ValueError, match="local: expected rows 0 to 3 of rank 0, got 4"):
        sharding.to_global(0, 4)
    with pytest.raises(ValueError, match="new: expected the sizes of old"):
        conversion(sharding, Sharding((3, 5), 2))
