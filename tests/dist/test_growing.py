"""Class-parallel heads: checkpoints between numbers of ranks, and baskets that join while training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dist.growing import OPTIMIZERS

pytestmark = pytest.mark.dist
WORLDS = range(1, 5)
KINDS = ("basket", "contiguous")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_old_rows_stay(workers, world: int, kind: str, optimizer: str) -> None:
    workers.run(world, "growing.old_rows_stay", kind, optimizer)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_like_one_process(workers, world: int, kind: str) -> None:
    workers.run(world, "growing.like_one_process", kind)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("saved", WORLDS)
def test_heads_resume_at_any_number_of_ranks(workers, tmp_path: Path, saved: int, optimizer: str) -> None:
    for kind in KINDS:
        workers.run(saved, "growing.heads_resume", str(tmp_path), True, kind, optimizer)
    for world in WORLDS:
        for kind in KINDS:
            workers.run(world, "growing.heads_resume", str(tmp_path), False, kind, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_continues_bit_for_bit(
    workers, tmp_path: Path, world: int, kind: str, optimizer: str
) -> None:
    workers.run(world, "growing.continues", str(tmp_path), kind, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("saved", WORLDS)
def test_training_goes_on_at_another_number_of_ranks(
    workers, tmp_path: Path, saved: int, optimizer: str
) -> None:
    """The same global batches: within round-off."""
    arguments = ("growing.goes_on_elsewhere", str(tmp_path / "run"))
    want = workers.run(saved, *arguments, "basket", optimizer)[0]
    for world in WORLDS:
        for kind in KINDS:
            got = workers.run(world, *arguments, kind, optimizer)[0]
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_state_that_cannot_be_sharded(workers, tmp_path: Path) -> None:
    workers.run(3, "growing.no_rows_for_all", str(tmp_path))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_state_dict_knows_its_part(workers, world: int, kind: str) -> None:
    workers.run(world, "growing.states_know_their_part", kind)
