"""Labels of all records of a RecordIO file at once, without reading the images between them.

The file is mapped and the words of each header are gathered by index arrays: a loop over ten million records in
Python would take minutes. Every record begins at a multiple of 4 bytes, so the file is an array of words.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from .recordio import FIRST, HEADER, LENGTH_BITS, MAGIC, WHOLE, RecordFile, unpack

_CHUNK = 1 << 20
_WORDS = 2 + HEADER.size // 4  # magic, length and header; a label after the header is the next word
_FLAG, _LABEL = 2, 3


class Headers(NamedTuple):
    """Of N records: label [N] float32, as `recordio.Record.label`; has_payload [N] bool."""

    label: np.ndarray
    has_payload: np.ndarray


def read_headers(file: RecordFile, keys: np.ndarray, offsets: np.ndarray) -> Headers:
    """The headers of the records that begin at `offsets` [N] int64; `keys` [N] name them in messages.

    Raises:
        ValueError: an offset where no image record begins.
    """
    size = os.path.getsize(file.path) // 4
    wrong = (offsets < 0) | (offsets % 4 != 0) | (offsets // 4 + _WORDS > size)
    _check(file, keys, offsets, wrong)
    words = np.memmap(file.path, "<u4", "r", shape=(size,))
    label, has_payload = np.empty(len(offsets), np.float32), np.empty(len(offsets), bool)
    for begin in range(0, len(offsets), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        label[part], has_payload[part] = _chunk(file, words, keys[part], offsets[part])
    return Headers(label, has_payload)


def _chunk(file: RecordFile, words: np.ndarray, keys: np.ndarray, offsets: np.ndarray) -> Headers:
    first = offsets // 4
    magic, length, flag, label = (words[first + k] for k in (0, 1, _FLAG, _LABEL))
    kind, length = length >> LENGTH_BITS, length & ((1 << LENGTH_BITS) - 1)
    needed = HEADER.size + 4 * flag.astype(np.int64)
    _check(file, keys, offsets, (magic != MAGIC) | (kind > FIRST) | ((kind == WHOLE) & (length < needed)))
    after = words[np.minimum(first + _WORDS, len(words) - 1)]
    label, has_payload = np.where(flag > 0, after, label).view(np.float32), length > needed
    for i in np.flatnonzero(
        kind == FIRST
    ):  # a magic number in the data: rare, and it may stand in the header
        record = unpack(file.record(int(offsets[i])))
        label[i], has_payload[i] = record.label, bool(record.payload)
    return Headers(label, has_payload)


def _check(file: RecordFile, keys: np.ndarray, offsets: np.ndarray, wrong: np.ndarray) -> None:
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{file.path}: no image record at byte {offsets[i]}, where its index has the key {keys[i]}: the file is "
            "damaged or the index another's"
        )
