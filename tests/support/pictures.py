"""Image files for tests: small, all different, and known to the pixel."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def pixels(number, size=(9, 7), channels=3):
    """[H, W, C] uint8 that `number` decides; no two numbers give the same."""
    return np.random.default_rng([17, number]).integers(0, 256, (*size, channels), dtype=np.uint8)


def encoded(number, size=(9, 7), channels=3, form="PNG"):
    """The bytes of that picture in a file format; PNG keeps it exactly."""
    array = pixels(number, size, channels)
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if channels == 1 else array).save(buffer, form)
    return buffer.getvalue()


def write_tree(root, tree):
    """Files below `root`: {"anna/1.png": 3} writes picture 3 there, {"anna/notes.txt": b"..."} those bytes."""
    for path, what in tree.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(what if isinstance(what, bytes) else encoded(what))
    return root
