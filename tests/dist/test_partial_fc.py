"""compat.insightface.PartialFC_V2 on several ranks: the step of one process, with insightface's conventions."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.dist
WORLDS = [1, 2, 3]


@pytest.mark.parametrize("world", WORLDS)
def test_one_step(workers, world: int) -> None:
    workers.run(world, "partial_fc.one_step")


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("world", WORLDS)
def test_gradients_are_those_of_train_v2(workers, world: int, sample_rate: float) -> None:
    workers.run(world, "partial_fc.published", sample_rate)


@pytest.mark.parametrize("world", WORLDS)
def test_twenty_steps_with_the_backbone_in_ddp(workers, world: int) -> None:
    assert max(workers.run(world, "partial_fc.with_the_backbone_in_ddp")) <= 1e-4


@pytest.mark.parametrize("world", WORLDS)
def test_states(workers, world: int, tmp_path) -> None:
    workers.run(world, "partial_fc.states", str(tmp_path))


def test_the_default_group(workers) -> None:
    workers.run(4, "partial_fc.the_default_group")


def test_refused(workers) -> None:
    workers.run(2, "partial_fc.refused")


def test_what_is_wrong_on_one_rank_is_refused_on_all(workers) -> None:
    workers.run(2, "partial_fc.refused_together")
