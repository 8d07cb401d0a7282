"""Writes the glyph file: an .npz that numpy reads, with LZMA members and no time stamps, so the same glyphs give the
same bytes. Two pixels share a byte, the left one in the high half.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip member can carry: a fixed one


def pack_pixels(glyphs: np.ndarray) -> np.ndarray:
    """uint8 [n, 40, 40] with values 0..15 -> uint8 [n, 800]."""
    flat = glyphs.reshape(len(glyphs), -1)
    return (flat[:, 0::2] << 4) | flat[:, 1::2]


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> int:
    """Writes `arrays` and returns the file's size in bytes."""
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), buffer.getvalue(), zipfile.ZIP_LZMA)
    return path.stat().st_size
