"""Several writers among the processes of one torchrun: a head without a group is rank 0's; groups take turns."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("world", [2, 4])
def test_a_plain_head_is_saved_by_rank_0(workers, tmp_path: Path, world: int) -> None:
    workers.run(world, "plain_heads.rank_0_saves", str(tmp_path))


def test_heads_of_one_rank_each(workers, tmp_path: Path) -> None:
    workers.run(4, "plain_heads.heads_of_one_rank", str(tmp_path))


def test_two_groups_save_to_one_folder(workers, tmp_path: Path) -> None:
    workers.run(4, "plain_heads.groups_to_one_folder", str(tmp_path))
