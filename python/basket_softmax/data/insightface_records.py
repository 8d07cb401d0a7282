"""insightface's training sets (`train.rec` with `train.idx`), as an `ImageBasket`.

Record 0 has no image but two labels, a and b: the records 1 … a-1 are the images, a … b-1 one per identity with the
range of its images. Image records say their label themselves, so the identities' ranges are not needed; some have
a second label, whether the face is aligned. A file without such a record 0 has images only (MXNet's im2rec).

Labels are float32. From 2^24 on it has no odd numbers, and larger training sets exist (Glint360K has 17 million
images): a is then known up to rounding, and a record near it is an image if it has any.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .basket import ImageBasket
from .folder import EMPTY
from .record_headers import read_headers
from .recordio import RecordFile, read_index, unpack
from .skipped import Skipped

NO_IMAGE = "records without an image"
PAST_END = "images past those that record 0 announces"

_EXACT = 1 << 24  # float32 holds every integer below


def open_records(path: Path, name: str) -> ImageBasket:
    """The images of a `.rec` file by key; an identity is a label, called by its number, in their order.

    Raises:
        FileNotFoundError: there is no `.idx` beside it.
        ValueError: an index that does not fit, a label that is no identity's number, no image.
    """
    index = path.with_suffix(".idx")
    if not index.is_file():
        raise FileNotFoundError(f"{path} needs its index {index.name} beside it, which does not exist")
    file, skipped = RecordFile(path), Skipped()
    keys, offsets = read_index(index)
    label, has_payload = read_headers(file, keys, offsets)
    is_image = _images(file, keys, offsets, has_payload, skipped)
    if not is_image.any():
        raise ValueError(f"{path} has no image" + (f", it has {skipped}" if skipped else ""))
    keys, offsets, label = keys[is_image], offsets[is_image], label[is_image]
    wrong = np.flatnonzero(~((label >= 0) & (label < _EXACT) & (label == np.floor(label))))
    if len(wrong):
        what = f"{label[wrong[0]]:.9g} in record {keys[wrong[0]]}"
        raise ValueError(f"{path}: expected labels that are integers from 0 to {_EXACT - 1}, got {what}")
    numbers, labels = np.unique(label.astype(np.int64), return_inverse=True)
    gaps = np.setdiff1d(np.arange(numbers[-1] + 1), numbers, assume_unique=True)
    skipped.add(EMPTY, *map(str, gaps.tolist()))
    source = RecordImages(file, keys, offsets)
    return ImageBasket(name, [str(number) for number in numbers], labels.astype(np.int64), source, skipped)


def _images(
    file: RecordFile, keys: np.ndarray, offsets: np.ndarray, has_payload: np.ndarray, skipped: Skipped
) -> np.ndarray:
    """[N] bool, which records are images; what should be one and is not goes into `skipped`."""
    end, slack = np.iinfo(np.int64).max, 0
    may_be = np.ones(len(keys), bool)
    zero = np.flatnonzero(keys == 0)
    if len(zero):
        record = unpack(file.record(int(offsets[zero[0]])))
        if record.labels and not record.payload:
            if not 0 <= record.label < 1 << 53:
                raise ValueError(
                    f"{file.path}: expected a record's key as the end of the images in record 0, got {record.label}"
                )
            end, may_be = int(record.label), keys != 0
            slack = 0 if end < _EXACT else int(np.spacing(np.float32(end)))
    past = may_be & has_payload & (keys >= end + slack)
    empty = may_be & ~has_payload & (keys < end - slack)
    skipped.add(NO_IMAGE, *(f"record {key}" for key in keys[empty]))
    skipped.add(PAST_END, *(f"record {key}" for key in keys[past]))
    return may_be & has_payload & ~past


class RecordImages:
    """N images in a RecordIO file.

    Args:
        file: the records.
        keys, offsets: [N] int64, of each image's record.
    """

    def __init__(self, file: RecordFile, keys: np.ndarray, offsets: np.ndarray) -> None:
        self.file = file
        self.keys, self.offsets = keys, offsets

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, i: int) -> bytes:
        """The encoded image."""
        return unpack(self.file.record(int(self.offsets[i]))).payload

    def where(self, i: int) -> str:
        """File and key."""
        return f"{self.file.path} record {self.keys[i]}"

    def take(self, images: np.ndarray) -> RecordImages:
        """Those images; the file is shared."""
        return RecordImages(self.file, self.keys[images], self.offsets[images])
