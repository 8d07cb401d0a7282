"""Identity linking with the classes spread over ranks: as in one process, through growth and restart."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.dist
KINDS = ("basket", "contiguous")


@pytest.mark.parametrize("world", [1, 3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_set_aliases(workers, world: int, kind: str) -> None:
    workers.run(world, "linking.new_aliases", kind)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_like_one_process(workers, world: int, kind: str, known: bool) -> None:
    workers.run(world, "linking.like_one_process", kind, known)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_growth_and_restart(workers, world: int, kind: str) -> None:
    workers.run(world, "linking.goes_on", kind)
