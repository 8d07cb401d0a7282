"""The folder of a checkpoint: a new one is written beside the old, and one renamed file makes it the current one.

    folder/checkpoint.json          names the current data folder; replaced in one step, last
    folder/data-3f0c…/              .metadata and *.distcp, the files of torch.distributed.checkpoint

Whatever moment a crash picks, checkpoint.json names complete data: the old or the new.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from ..replacing import replacing
from .errors import CheckpointError
from .manifest import NAME, FileInfo, Manifest

DATA = "data-"
BLOCK = 1 << 24


def new_data_folder(folder: Path) -> str:
    """Makes the folder, and in it the next data folder; returns the latter's name."""
    folder.mkdir(parents=True, exist_ok=True)
    name = DATA + uuid.uuid4().hex[:12]
    (folder / name).mkdir()
    return name


def commit(folder: Path, manifest: Manifest) -> None:
    """Makes the manifest's data the current one, then removes all other data, of crashed attempts too."""
    _sync_folder(folder / manifest.data)
    with replacing(folder / NAME) as file:
        file.write(manifest.to_json())
    _sync_folder(folder)
    for old in folder.glob(f"{DATA}*"):
        if old.name != manifest.data:
            shutil.rmtree(old, ignore_errors=True)


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
