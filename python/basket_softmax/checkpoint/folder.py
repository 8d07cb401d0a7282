"""The folder of a checkpoint: a new one is written beside the old, and one renamed file makes it the current one.

    folder/checkpoint.json          names the current data folder; replaced in one step, last
    folder/data-3f0c…/              .metadata and *.distcp, the files of torch.distributed.checkpoint
    folder/.checkpoint.lock         held by whoever writes

Whatever moment a crash picks, checkpoint.json names complete data: the old or the new. Writers come one after the
other, and one removes no data that somebody is reading. Without the lock (a file system that has none) a writer removes
nothing but the data that it replaces, so that checkpoint.json still names complete data, whoever was last.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..file_lock import LockHeld, file_lock, shared_lock, unless_shared
from ..replacing import ASIDE, replacing
from .errors import CheckpointError
from .manifest import NAME, FileInfo, Manifest, read_manifest

DATA = "data-"
METADATA = ".metadata"  # of every data folder: torch.distributed.checkpoint writes it last
LOCK = ".checkpoint.lock"
WAIT = 300.0  # seconds; the other ranks wait meanwhile, by default 600 with NCCL
BLOCK = 1 << 24


def new_data_folder(folder: Path) -> str:
    """Make the next data folder; return its name."""
    name = DATA + uuid.uuid4().hex[:12]
    (folder / name).mkdir()
    return name


@contextmanager
def writing(folder: Path) -> Iterator[bool]:
    """Keep other writers out of the folder, which is made, during the block. One process of a group calls it.

    Yields:
        Whether others are kept out, for `commit`; see `file_lock`.

    Raises:
        CheckpointError: another process has been writing there for `WAIT` seconds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(f"a checkpoint is a folder, got the path of a file: {folder}") from None
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(file_lock(folder / LOCK, WAIT))
        except LockHeld as holder:
            raise CheckpointError(
                f"{folder} is being written by {holder}, for more than {WAIT:g} s: end that process if it hangs, or "
                "save to another folder"
            ) from None
        yield alone


@contextmanager
def reading(folder: Path) -> Iterator[Manifest]:
    """The current manifest, whose data no writer removes during the block.

    Raises:
        CheckpointError: as `read_manifest`.
    """
    while True:
        manifest = read_manifest(folder)
        with shared_lock(folder / manifest.data / METADATA):
            if read_manifest(folder).data == manifest.data:  # it was not replaced and removed in between
                yield manifest
                return


def commit(folder: Path, manifest: Manifest, alone: bool) -> None:
    """Make the manifest's data the current one, then remove other data that nobody reads.

    Args:
        alone: what `writing` yielded. Then all other data is to go, that of crashed attempts too; otherwise only that
            of the manifest that this one replaces.
    """
    _sync_folder(folder / manifest.data)
    others = set(filter(_is_data, folder.glob(f"{DATA}*"))) if alone else _current(folder)
    with replacing(folder / NAME) as file:
        file.write(manifest.to_json())
    _sync_folder(folder)
    for old in others - {folder / manifest.data}:
        with unless_shared(old / METADATA) as unread:
            if unread:
                shutil.rmtree(old, ignore_errors=True)
    if alone:
        for left in folder.glob(f"{NAME}.*{ASIDE}"):
            left.unlink(missing_ok=True)


def being_read(folder: Path) -> bool:
    """Return whether somebody is in `reading(folder)`, with whichever of its data."""
    for metadata in folder.glob(f"{DATA}*/{METADATA}"):
        with unless_shared(metadata) as unread:
            if not unread:
                return True
    return False


def _is_data(folder: Path) -> bool:
    """Return whether a save made this folder, by its name and by what is in it."""
    if re.fullmatch(rf"{DATA}[0-9a-f]{{12}}", folder.name) is None or not folder.is_dir():
        return False
    return all(file.name == METADATA or file.suffix in (".distcp", ".tmp") for file in folder.iterdir())


def _current(folder: Path) -> set[Path]:
    try:
        return {folder / read_manifest(folder).data}
    except CheckpointError:
        return set()


def describe(path: Path, progress: Callable[[int], None] | None = None) -> FileInfo:
    """Size and digest of a file; `progress` is called with the bytes of each block."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
            if progress is not None:
                progress(len(block))
    return FileInfo(size, digest.hexdigest())


def verify(
    folder: Path,
    manifest: Manifest,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """That the files are those that were written; each rank looks at its share of them.

    Raises:
        CheckpointError: a file is missing, shorter, longer, or has other contents.
    """
    for name, expected in sorted(manifest.files.items())[rank::world]:
        path = folder / manifest.data / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        size = path.stat().st_size
        if size != expected.bytes:
            raise CheckpointError(
                f"{path} has {size} bytes, {expected.bytes} were written: it was cut or extended"
            )
        if describe(path, progress).sha256 != expected.sha256:
            raise CheckpointError(f"{path} was changed after it was written: its SHA-256 differs")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
