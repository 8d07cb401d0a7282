"""The harness: answers by rank, a failure with its text, and never a hang."""

from __future__ import annotations

import time

import pytest

from dist.workers import Failed

pytestmark = pytest.mark.dist


def test_answers(workers) -> None:
    assert workers.run(3, "silent.answers", 5) == [5, 6, 7]


@pytest.mark.slow
def test_failure(workers) -> None:
    with pytest.raises(Failed, match=r"rank 1(.|\n)*rank one had enough"):
        workers.run(2, "silent.one_fails")
    assert workers.run(2, "silent.answers", 0) == [0, 1]


@pytest.mark.slow
def test_silence(workers) -> None:
    workers.run(2, "silent.answers", 0)
    begin = time.monotonic()
    with pytest.raises(Failed, match="rank 1 of 2 gave no answer within 1"):
        workers.run(2, "silent.one_sleeps", timeout=1.0)
    assert time.monotonic() - begin < 30
