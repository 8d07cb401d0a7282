"""The lock of a run's output. Two runs in one folder would write into each other's logs and prune each other's
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..file_lock import LockHeld, file_lock, lock_holder
from .ranks import Ranks
from .state import ResumeError

LOCK = ".train.lock"
WAIT = (
    2.0  # seconds: for ranks that are about to end, and for `--check`, which looks at the lock for a moment
)


@contextmanager
def run_lock(output: Path, ranks: Ranks) -> Iterator[None]:
    """Keep every other run out of `output` during the block; the first rank holds the lock for all.

    The folder is made, and removed again when the block leaves it as empty as it was.

    Raises:
        ResumeError: another run is in there.
        OSError: the folder cannot be made or written; on every rank.
    """
    with ExitStack() as stack:
        problem: Exception | None = None
        if ranks.first:
            try:
                stack.enter_context(_held(output))
            except (OSError, ResumeError) as error:
                problem = error
        problem = ranks.from_all(problem)[0]
        if problem is not None:
            raise problem
        yield


def refuse_running(output: Path) -> None:
    """Raise ResumeError if a run is in `output`; nothing is written."""
    holder = lock_holder(output / LOCK)
    if holder is not None:
        raise _running(output, holder)


@contextmanager
def _held(output: Path) -> Iterator[None]:
    missing = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # what no permission tells beforehand
        raise OSError(f"{output} cannot be made: {error.strerror}") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(output / LOCK, WAIT))
        except LockHeld as holder:
            raise _running(output, str(holder)) from None
        try:
            yield
        finally:
            with suppress(OSError):  # somebody removed the folder, or put something into it
                if missing and [path.name for path in output.iterdir()] == [LOCK]:
                    (output / LOCK).unlink()
                    for path in missing:
                        path.rmdir()


def _running(output: Path, holder: str) -> ResumeError:
    return ResumeError(
        f"{output} is in use by another run ({holder}): wait for its end, or choose another output"
    )
