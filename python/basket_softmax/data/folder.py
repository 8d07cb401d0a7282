"""A folder with one sub-folder per identity, the layout of most published datasets, as an `ImageBasket`.

One `os.scandir` per folder and no `stat` per file: the kind of an entry comes with its name.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .basket import ImageBasket
from .names import IMAGE_EXTENSIONS, is_image, listed, natural_key
from .paths import ImagePaths
from .skipped import Skipped

NOT_IMAGES = "files that are not images"
OUTSIDE = "images outside the identities' folders"
EMPTY = "identities without an image"
LOOPS = "links to a folder above them"
CIRCLES = "links to themselves"


def open_folder(folder: Path, name: str) -> ImageBasket:
    """The images of `folder`, in natural order of their identities and paths.

    A sub-folder is an identity; every image below it, at any depth, is an image of it. Hidden files and folders
    (a leading dot) are passed over, links followed, extensions compared in any case.

    Raises:
        ValueError: there is no identity with an image.
    """
    skipped = Skipped()
    folders, loose, circles = _entries(folder)
    skipped.add(CIRCLES, *map(_printable, circles))
    for entry in loose:
        skipped.add(OUTSIDE if is_image(entry) else NOT_IMAGES, entry)
    text, stop, labels = bytearray(), array("q"), array("q")
    identities: list[str] = []
    # A link to the root or above it would make all people images of one identity.
    root = os.path.realpath(folder)
    above = (root, *map(str, Path(root).parents))
    for identity in sorted(folders, key=natural_key):
        path = os.path.join(folder, identity)
        if os.path.islink(path) and os.path.realpath(path) in above:
            skipped.add(LOOPS, _printable(identity))
            continue
        images = list(_images(folder, identity, skipped, above))
        if not images:
            skipped.add(EMPTY, _printable(identity))
            continue
        for path in images:
            text += os.fsencode(path)
            stop.append(len(text))
            labels.append(len(identities))
        identities.append(_printable(identity))
    if not identities:
        raise ValueError(_nothing(folder, loose, skipped))
    stops = np.frombuffer(stop, np.int64)
    starts = np.r_[0, stops[:-1]]
    source = ImagePaths(folder, bytes(text), starts, stops)
    return ImageBasket(name, identities, np.array(labels, np.int64), source, skipped)


def _entries(folder: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the sub-folders, of the files, and of links that go round in a circle, without the hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    circles: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                try:
                    kind = folders if entry.is_dir() else files
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                    kind = circles
                kind.append(entry.name)
    return folders, files, sorted(circles, key=natural_key)


def _images(root: Path, inside: str, skipped: Skipped, above: tuple[str, ...]) -> Iterator[str]:
    """Paths, relative to `root`, of the images below its sub-folder `inside`, in natural order."""
    folders, files, circles = _entries(os.path.join(root, inside))
    skipped.add(CIRCLES, *(_printable(f"{inside}/{circle}") for circle in circles))
    for file in sorted(files, key=natural_key):
        if is_image(file):
            yield f"{inside}/{file}"
        else:
            skipped.add(NOT_IMAGES, _printable(f"{inside}/{file}"))
    if folders:  # rare below an identity: only here is the real path asked for, which a loop of links needs
        above = (*above, os.path.realpath(os.path.join(root, inside)))
    for sub in sorted(folders, key=natural_key):
        path = f"{inside}/{sub}"
        if os.path.realpath(os.path.join(root, path)) in above:
            skipped.add(LOOPS, _printable(path))
        else:
            yield from _images(root, path, skipped, above)


def _printable(name: str) -> str:
    """`name` with bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _nothing(folder: Path, loose: list[str], skipped: Skipped) -> str:
    """The message for a folder that holds no basket."""
    message = (
        f"{folder}: expected a sub-folder with images ({', '.join(IMAGE_EXTENSIONS)}) per identity, got none"
    )
    records = [file for file in loose if file.endswith((".rec", ".csv", ".parquet"))]
    if records:
        return f"{message}. To open {listed(sorted(records))}, name the file itself"
    return f"{message}. It has {skipped}" if skipped else f"{message}. It is empty"
