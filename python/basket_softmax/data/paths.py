"""`ImagePaths`: image files named by one joined string of paths and where each begins and ends."""

from __future__ import annotations

import os

import numpy as np


class ImagePaths:
    """N image files.

    Args:
        folder: what relative paths start from.
        text: all paths one after another, as the file system's bytes.
        start, stop: [N] int64, image i is `text[start[i]:stop[i]]`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], text: bytes, start: np.ndarray, stop: np.ndarray
    ) -> None:
        self.folder = os.fsencode(folder)
        self.text = text
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return len(self.start)

    def path(self, i: int) -> bytes:
        """Of image i, with the folder."""
        return os.path.join(self.folder, self.text[self.start[i] : self.stop[i]])

    def read(self, i: int) -> bytes:
        """The whole file."""
        with open(self.path(i), "rb") as file:
            return file.read()

    def where(self, i: int) -> str:
        """The path; bytes that are not UTF-8 as \\xNN, so that it can be printed."""
        return self.path(i).decode("utf-8", "backslashreplace")

    def take(self, images: np.ndarray) -> ImagePaths:
        """Those images; the text is shared, not copied."""
        return ImagePaths(os.fsdecode(self.folder), self.text, self.start[images], self.stop[images])
