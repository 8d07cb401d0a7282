"""Checkpoints of one to four ranks, loaded by one to four, under both kinds of shard: the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.dist


def test_every_layout_loads_in_every_other(workers, tmp_path: Path) -> None:
    for world in range(1, 5):
        workers.run(world, "layouts.save_all", str(tmp_path))
    for world in range(1, 5):
        workers.run(world, "layouts.load_all", str(tmp_path))


def test_stock_dcp_reads_them_as_dtensors(workers, tmp_path: Path) -> None:
    workers.run(3, "layouts.save_rows", str(tmp_path))
    workers.run(4, "layouts.as_dtensor", str(tmp_path))


def test_an_error_on_one_rank_is_one_on_all(workers, tmp_path: Path) -> None:
    workers.run(4, "layouts.errors_are_shared", str(tmp_path))


def test_ranks_that_save_to_different_folders_are_refused(workers, tmp_path: Path) -> None:
    workers.run(3, "layouts.a_folder_for_each", str(tmp_path))


def test_an_optimizer_on_one_rank_alone_is_refused(workers, tmp_path: Path) -> None:
    workers.run(3, "layouts.an_optimizer_on_one_rank", str(tmp_path))


@pytest.mark.parametrize("world", range(1, 5))
def test_live_rows_move_between_layouts(workers, world: int) -> None:
    workers.run(world, "layouts.rows_move")
