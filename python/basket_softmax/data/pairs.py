"""`read_pairs`: pairs of images with the answer to whether they are one person, as LFW, CFP-FP and AgeDB-30 come."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .basket import ImageBasket
from .extras import pil_image
from .image import UnreadableImage, parse_image
from .pair_file import read_pair_file


class VerificationPairs(NamedTuple):
    """P pairs: pair p is the images 2 p and 2 p + 1.

    images: 2 P, as one basket; who they are is not known, so they have one identity, "unknown".
    same: [P] bool, whether the pair is one person.
    """

    images: ImageBasket
    same: np.ndarray


def read_pairs(path: str | os.PathLike[str], name: str | None = None) -> VerificationPairs:
    """Read one of insightface's `.bin` files; nothing that is in the pickle is run.

    Args:
        path: a pickle of (list of 2 P encoded images, list of P bools); the whole of it is held in memory.
        name: of the basket of its images; None takes the file's without extension.

    Raises:
        OSError: it cannot be read.
        UnreadableImage: a header of one of its images is of no image.
        ValueError: it is no such file, or names anything but bytes, bools and arrays of these.
        ImportError: Pillow is missing.
    """
    path = Path(path)
    pil_image()
    encoded, same = read_pair_file(path)
    source = ImagesInMemory(encoded, np.arange(len(encoded)), str(path))
    for i, image in enumerate(encoded):
        try:
            parse_image(image, pixels=False)
        except UnreadableImage as error:
            raise UnreadableImage(f"{source.where(i)}: the image cannot be read: {error}") from None
    labels = np.zeros(len(encoded), np.int64)
    return VerificationPairs(ImageBasket(name or path.stem, ["unknown"], labels, source), np.array(same))


class ImagesInMemory:
    """N encoded images.

    Args:
        encoded: of the whole file.
        numbers: [N], of those that are meant.
        file: for messages.
    """

    def __init__(self, encoded: list[bytes], numbers: np.ndarray, file: str) -> None:
        self.encoded, self.numbers, self.file = encoded, numbers, file

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, i: int) -> bytes:
        """The encoded image."""
        return self.encoded[self.numbers[i]]

    def where(self, i: int) -> str:
        """File and number."""
        return f"{self.file} image {self.numbers[i]}"

    def take(self, images: np.ndarray) -> ImagesInMemory:
        """Those images; the bytes are shared."""
        return ImagesInMemory(self.encoded, self.numbers[images], self.file)
