"""`file_lock`: one process at a time, by flock(2) on a file.

The kernel holds the lock for an open file and takes it back when the process ends, however it ends; processes that a
holder forks (a DataLoader's workers) drop their copy of the open file, so that they do not outlive it as holders. The
file itself stays: removing it while another host has it in a cache would give the lock twice.

On NFS, Linux passes flock to the server, so it holds between hosts, unless the mount says `nolock` or `local_lock`:
then it holds on each host by itself, and nothing tells. After a crash of a whole host NFSv4 frees its locks when their
lease runs out (90 s by default). A file system without flock is reported, see `file_lock`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
)  # nfs without lockd; lustre without -o flock; others
PAUSE = 0.05  # seconds between two attempts, at most

_held: set[int] = set()  # open files, of this process


class LockHeld(RuntimeError):
    """Another process holds the lock; the message is "process 12 on host"."""


@contextmanager
def file_lock(path: Path, wait: float = 0.0) -> Iterator[bool]:
    """Hold the lock `path` during the block.

    Args:
        path: of the lock's file, made if missing, in a folder that exists.
        wait: seconds to wait for another holder.

    Yields:
        True; False where the file system has no locks.

    Raises:
        LockHeld: another process, or another thread, holds it and did not let go in time.
        OSError: the file cannot be opened for writing.

    Warns:
        UserWarning: the file system has no locks; the block runs without one.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    owner = os.getpid()
    _held.add(handle)
    try:
        locked = _acquire(handle, path, wait)
        if locked:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {owner} on {socket.gethostname()}\n".encode(), 0)
        yield locked
    finally:
        if os.getpid() == owner:  # a fork that left the block has closed its copy already
            _held.discard(handle)
            os.close(handle)


def lock_holder(path: Path) -> str | None:
    """Who holds the lock now, "process 12 on host"; None: nobody. Nothing is made or changed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _take(handle, fcntl.LOCK_SH) is not False else _holder(handle)
    finally:
        os.close(handle)


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Keep `in_use(path)` True during the block, beside any number of others that do so; nothing if it is missing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # whoever needs the file says what is wrong with it
        yield
        return
    owner = os.getpid()
    _held.add(handle)
    try:
        _take(handle, fcntl.LOCK_SH)
        yield
    finally:
        if os.getpid() == owner:
            _held.discard(handle)
            os.close(handle)


@contextmanager
def unless_shared(path: Path) -> Iterator[bool]:
    """Yield True while nobody holds `shared_lock(path)`, and nobody can; False if somebody does."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        yield _take(handle, fcntl.LOCK_EX) is not False
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, wait: float) -> bool:
    end = time.monotonic() + wait
    while True:
        taken = _take(handle, fcntl.LOCK_EX)
        if taken is None:
            warnings.warn(
                f"the file system of {path.parent} has no locks (flock): nothing keeps another process from writing "
                "there at the same time; see to it that only one does",
                stacklevel=4,
            )
            return False
        if taken:
            return True
        if time.monotonic() >= end:
            raise LockHeld(_holder(handle))
        time.sleep(PAUSE * random.random())  # two that wait should not meet again and again


def _take(handle: int, kind: int) -> bool | None:
    """Return whether this process has the lock now; None where there are no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def _holder(handle: int) -> str:
    text = b""
    with suppress(OSError):
        text = os.pread(handle, 200, 0)
    return text.decode(errors="replace").strip() or "another process"


def _close_after_fork() -> None:
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_close_after_fork)
