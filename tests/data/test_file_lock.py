"""One holder at a time, whichever way the last one ended."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from basket_softmax import file_lock as module
from basket_softmax.file_lock import LockHeld, file_lock, lock_holder, shared_lock, unless_shared

HOLDER = f"process {os.getpid()} on {socket.gethostname()}"


def test_one_at_a_time_and_the_other_learns_who(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    assert not path.exists()
    with file_lock(path) as locked:
        assert locked
        assert lock_holder(path) == HOLDER
        with pytest.raises(LockHeld, match=f"^{HOLDER}$"), file_lock(path):
            pass
    assert lock_holder(path) is None
    with file_lock(path):
        pass


def test_an_error_in_the_block_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), file_lock(tmp_path / "lock"):
        raise KeyboardInterrupt
    assert lock_holder(tmp_path / "lock") is None


def test_it_waits_as_long_as_it_may(tmp_path: Path) -> None:
    path, taken, done = tmp_path / "lock", threading.Event(), []

    def hold() -> None:
        with file_lock(path):
            taken.set()
            time.sleep(0.3)
            done.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    with pytest.raises(LockHeld), file_lock(path, wait=0.05):
        pass
    with file_lock(path, wait=30.0):
        done.append("second")
    thread.join()
    assert done == ["first", "second"]


FORKS = """
import os, runpy, sys, time
from pathlib import Path
file_lock = runpy.run_path(sys.argv[2])["file_lock"]  # without the package, and so without torch
with file_lock(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(300)
"""


def test_a_killed_process_holds_nothing_not_even_through_its_children(tmp_path: Path) -> None:
    """A child that was forked, as a DataLoader's workers are, has the open file too, and may live on."""
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, str(path), module.__file__], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert lock_holder(path) == f"process {process.pid} on {socket.gethostname()}"
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        with file_lock(path, wait=5.0) as locked:
            assert locked
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_a_fork_that_leaves_the_block_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path):
        child = os.fork()
        if child == 0:
            os._exit(0 if not module._held else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert lock_holder(path) == HOLDER


def test_readers_share_and_keep_out_whoever_removes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("x")
    with shared_lock(path), shared_lock(path), unless_shared(path) as free:
        assert not free
    with unless_shared(path) as free:
        assert free
    with shared_lock(tmp_path / "none"), unless_shared(tmp_path / "none") as free:
        assert free
    assert path.read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(handle: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    told = pytest.warns(UserWarning, match=r"has no locks .* see to it that only one does")
    with told as caught, file_lock(tmp_path / "lock") as locked:
        assert not locked
    assert len(caught) == 1
    assert lock_holder(tmp_path / "lock") is None
    with shared_lock(tmp_path / "lock"), unless_shared(tmp_path / "lock") as free:
        assert free
