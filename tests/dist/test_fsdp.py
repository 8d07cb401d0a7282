"""A head without a process group under fully_shard and FullyShardedDataParallel."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("subcenters", [1, 3])
@pytest.mark.parametrize("world", [2, 3])
def test_centres_come_and_go_whole(workers, world: int, subcenters: int) -> None:
    workers.run(world, "fsdp.whole", subcenters)


def test_logits_and_outliers_of_pml(workers) -> None:
    workers.run(2, "fsdp.of_pml")


def test_no_centres_are_written_where_they_would_be_lost(workers) -> None:
    workers.run(2, "fsdp.between_forward_and_backward")


def test_checkpoints_and_growth_are_refused(workers, tmp_path: Path) -> None:
    workers.run(2, "fsdp.refused", str(tmp_path))


def test_flat_parameters_are_refused_outside_of_summon_full_params(workers, tmp_path: Path) -> None:
    workers.run(2, "fsdp.flat", str(tmp_path))
