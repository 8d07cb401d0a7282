"""Rows saved at one number of ranks and read at another: bit for bit, in DCP's own format, or refused by name."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.api import CheckpointException

from bbs_kernels.resharding import ShardedRows, key_of
from bbs_kernels.sharding import KINDS, Sharding
from resharding.ranks import load, names, rows, save, shard

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=5)
WORLD = st.integers(1, 9)
KIND = st.sampled_from(KINDS)


def numbered(sharding: Sharding, width: int = 3) -> torch.Tensor:
    return torch.arange(sharding.num_classes * width, dtype=torch.float32).view(-1, width)


@settings(max_examples=40)
@given(SIZES, WORLD, KIND, WORLD, KIND)
@example([0], 1, "basket", 2, "contiguous")
@example([1, 0, 2], 9, "basket", 9, "contiguous")
@example([31, 17, 1, 40], 4, "basket", 3, "basket")
def test_any_layout_from_any_other(
    sizes: list[int], world: int, kind: str, other: int, other_kind: str
) -> None:
    old, new = Sharding(tuple(sizes), world, kind), Sharding(tuple(sizes), other, other_kind)
    full = numbered(old)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), [{"w": rows("w", full, old, rank)} for rank in range(world)])
        for rank in range(other):
            part = rows("w", torch.full_like(full, -1.0), new, rank)
            load(Path(folder), {"w": part})
            assert torch.equal(part.tensor, shard(full, new, rank))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("trailing", [(), (5,), (2, 3)])
def test_dtypes_and_shapes(tmp_path: Path, dtype: torch.dtype, trailing: tuple[int, ...]) -> None:
    old, new = Sharding((7, 4), 3), Sharding((7, 4), 2, "contiguous")
    full = (torch.randn(11, *trailing) * 10).to(dtype)
    save(tmp_path, [{"w": rows("w", full, old, rank)} for rank in range(3)])
    for rank in range(2):
        part = rows("w", torch.zeros_like(full), new, rank)
        load(tmp_path, {"w": part})
        assert torch.equal(part.tensor, shard(full, new, rank))


def test_every_bit_pattern_survives(tmp_path: Path) -> None:
    """NaN payloads, -0, denormals: the rows are moved, not computed with."""
    bits = torch.randint(-(2**31), 2**31, (64, 8), dtype=torch.int64).to(torch.int32)
    bits[0, :4] = torch.tensor([-(2**31), 1, 0x7FC00001, -1], dtype=torch.int32)
    old, new = Sharding((64,), 4), Sharding((64,), 3)
    save(tmp_path, [{"w": rows("w", bits.view(torch.float32), old, rank)} for rank in range(4)])
    for rank in range(3):
        part = rows("w", torch.zeros(64, 8), new, rank)
        load(tmp_path, {"w": part})
        assert torch.equal(part.tensor.view(torch.int32), shard(bits, new, rank))


def test_objects_are_written_once_and_read_everywhere(tmp_path: Path) -> None:
    sharding = Sharding((5,), 3)
    full = numbered(sharding)
    extra = {"step": 7, "lr": [0.1, None], "mean": torch.arange(3.0)}
    states = [
        {"w": rows("w", full, sharding, rank), "extra": extra if rank == 0 else None} for rank in range(3)
    ]
    save(tmp_path, states)
    for _ in range(2):
        found = load(tmp_path, {"extra": None})["extra"]
        assert found["step"] == 7
        assert found["lr"] == [0.1, None]
        assert torch.equal(found["mean"], extra["mean"])


def test_stock_dcp_reads_the_same_files(tmp_path: Path) -> None:
    sharding = Sharding((31, 17), 4)
    full = numbered(sharding)
    save(tmp_path, [{"w": rows("w", full, sharding, rank)} for rank in range(4)])
    state = {key_of("w", "b0"): torch.empty(31, 3), key_of("w", "b1"): torch.empty(17, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    assert torch.equal(state["w/b0"], full[:31])
    assert torch.equal(state["w/b1"], full[31:])


def test_one_basket_of_several(tmp_path: Path) -> None:
    sharding = Sharding((31, 17), 4)
    full = numbered(sharding)
    save(tmp_path, [{"w": rows("w", full, sharding, rank)} for rank in range(4)])
    part = ShardedRows("w", ("b1",), Sharding((17,), 1), 0, torch.zeros(17, 3))
    load(tmp_path, {"w": part})
    assert torch.equal(part.tensor, full[31:])


def test_what_does_not_match_is_named(tmp_path: Path) -> None:
    sharding = Sharding((5, 4), 2)
    full = numbered(sharding)
    save(tmp_path, [{"w": rows("w", full, sharding, rank)} for rank in range(2)])
    one = Sharding((5, 4), 1)
    wrong = {
        "has no 'v/b0'": ShardedRows("v", names(one), one, 0, torch.zeros(9, 3)),
        r"'w/b0' has shape \(5, 2\) here, the checkpoint has \(5, 3\)": ShardedRows(
            "w", names(one), one, 0, torch.zeros(9, 2)
        ),
        r"'w/b1' has shape \(6, 3\) here, the checkpoint has \(4, 3\)": ShardedRows(
            "w", names(one), Sharding((5, 6), 1), 0, torch.zeros(11, 3)
        ),
        "'w/b0' is torch.float64 here, torch.float32 in the checkpoint": ShardedRows(
            "w", names(one), one, 0, torch.zeros(9, 3, dtype=torch.float64)
        ),
    }
    for message, part in wrong.items():
        with pytest.raises(CheckpointException, match=message):
            load(tmp_path, {"w": part})
    with pytest.raises(CheckpointException, match="has no 'extra'"):
        load(tmp_path, {"extra": None})


def test_a_rank_that_saves_nothing_is_noticed(tmp_path: Path) -> None:
    sharding = Sharding((6, 6), 3)
    full = numbered(sharding)
    with pytest.raises(ValueError, match="key:w/b0 invalid fill"):
        save(tmp_path, [{"w": rows("w", full, sharding, 0)}, {}, {"w": rows("w", full, sharding, 2)}])


def test_a_gap_in_the_list_of_chunks_is_noticed(tmp_path: Path) -> None:
    """DCP itself would leave the rows as they were."""
    sharding = Sharding((6,), 1)
    save(tmp_path, [{"w": rows("w", numbered(Sharding((4,), 1)), Sharding((4,), 1), 0)}])
    index = tmp_path / ".metadata"
    metadata = pickle.loads(index.read_bytes())
    metadata.state_dict_metadata["w/b0"].size = torch.Size((6, 3))
    index.write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointException, match="lacks rows of 'w/b0'"):
        load(tmp_path, {"w": rows("w", numbered(sharding), sharding, 0)})


def test_rows_refuse_another_count() -> None:
    with pytest.raises(
        ValueError, match=r"tensor: expected shape \[5, ...\], the rows of rank 0, got \(4, 3\)"
    ):
        ShardedRows("w", ("a", "b"), Sharding((5, 4), 2), 0, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="baskets: expected 2 names, got 1"):
        ShardedRows("w", ("a",), Sharding((5, 4), 2), 0, torch.zeros(5, 3))
