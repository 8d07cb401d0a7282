"""Four processes for all tests of this folder; a test uses the first `world` of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dist.workers import Workers


class _Pool:
    """Workers that are started anew after a failure, which may have left some in the middle of a collective."""

    def __init__(self) -> None:
        self._workers: Workers | None = None

    def run(self, world: int, function: str, *args: object, timeout: float = 120.0) -> list:
        if self._workers is None:
            self._workers = Workers(4)
        try:
            return self._workers.run(world, function, *args, timeout=timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        self._workers = None


@pytest.fixture(scope="session")
def workers() -> Iterator[_Pool]:
    pool = _Pool()
    yield pool
    pool.stop()
