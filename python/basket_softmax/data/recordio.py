"""MXNet's RecordIO: the framing of records in a file, its index, and the header that an image record begins with.

A record is one part, or several when the four bytes of the magic number stand in its data at a multiple of four:
there the writer cuts, leaves the magic out and says so in the parts' flags; the reader puts it back. A part is

    uint32 magic 0xced7230a | uint32 flag << 29 | length | data | zeros up to a multiple of 4

with flag 0 for a whole record, 1 for the first part, 2 for one between, 3 for the last (dmlc-core's recordio.h).
The index is text, a line per record: key, tab, offset in bytes. The data of an image record begins with

    uint32 flag | float32 label | uint64 id | uint64 id2 | flag × float32 labels

and the labels, if there are any, stand for the one in the header (mxnet.recordio.pack). Little-endian throughout.
"""

from __future__ import annotations

import os
import struct
import warnings
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 0xCED7230A
WHOLE, FIRST, BETWEEN, LAST = range(4)
LENGTH_BITS = 29
HEADER = struct.Struct("<IfQQ")

_PART = struct.Struct("<II")
_MAGIC_BYTES = struct.pack("<I", MAGIC)


class RecordFile:
    """A RecordIO file, read at given offsets by any number of processes and threads.

    The file is opened when a process first reads, so that it can be pickled, and each process has its own handle.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._opened: tuple[int, FileIO] | None = None  # by which process

    def record(self, offset: int) -> bytes:
        """The data of the record that begins at `offset`, its parts joined.

        Raises:
            OSError: no record begins there, or the file ends inside it.
        """
        data, expected = b"", (WHOLE, FIRST)
        while True:
            magic, word = _PART.unpack(self._bytes(offset, _PART.size))
            flag, length = word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1)
            if magic != MAGIC or flag not in expected:
                raise OSError(
                    f"{self.path}: no record at byte {offset}: the file is damaged or the index another's"
                )
            data += self._bytes(offset + _PART.size, length)
            if flag in (WHOLE, LAST):
                return data
            data += _MAGIC_BYTES
            offset, expected = offset + _PART.size + (length + 3) // 4 * 4, (BETWEEN, LAST)

    def _bytes(self, offset: int, length: int) -> bytes:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._opened = os.getpid(), FileIO(self.path)
        # What another thread put in place meanwhile may take the last reference to a file, but not to this one.
        data = os.pread(opened[1].fileno(), length, offset)
        if len(data) < length:
            raise OSError(f"{self.path}: the file ends inside the record at byte {offset}")
        return data

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]


class Record(NamedTuple):
    """label: of the header, or the first of the labels after it; labels: their number; payload: the rest."""

    label: float
    labels: tuple[float, ...]
    payload: bytes


def unpack(data: bytes) -> Record:
    """An image record's data, taken apart.

    Raises:
        ValueError: shorter than its header says.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"has {len(data)} bytes, an image record has at least {HEADER.size}")
    flag, label, _, _ = HEADER.unpack_from(data)
    if len(data) < HEADER.size + 4 * flag:
        raise ValueError(f"has {len(data)} bytes, but its header announces {flag} labels")
    labels = struct.unpack_from(f"<{flag}f", data, HEADER.size)
    return Record(labels[0] if flag else label, labels, data[HEADER.size + 4 * flag :])


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets) of an index file, int64 [N] each, ordered by key.

    Raises:
        ValueError: it is not lines of two integers, is empty, or has a key twice.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's way to say that the text is not numbers
        try:
            numbers = np.fromstring(path.read_bytes(), np.int64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError(
                f"{path}: expected lines of a key, a tab and an offset, got another line"
            ) from error
    if len(numbers) == 0 or len(numbers) % 2:
        raise ValueError(f"{path}: expected lines of a key, a tab and an offset, got {len(numbers)} numbers")
    keys, offsets = numbers.reshape(-1, 2).T
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise ValueError(f"{path} has the key {keys[twice[0]]} twice")
    return keys, offsets
