"""What the recipes of docs/parallel.md rest on, with torch alone; test_recipes.py runs them with the trainers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.dist


def test_one_module_in_ddp_that_ignores_the_head(workers) -> None:
    workers.run(2, "trainers.one_module")


def test_buffers_that_ddp_was_not_told_to_ignore_are_refused(workers) -> None:
    workers.run(2, "trainers.forgotten_buffers")


def test_a_norm_over_the_head_differs_between_ranks(workers) -> None:
    workers.run(2, "trainers.clipped_together")


def test_files_of_rank_0_and_then_the_checkpoint_go_on_bit_for_bit(workers, tmp_path: Path) -> None:
    workers.run(2, "trainers.rank_0_files", str(tmp_path))
