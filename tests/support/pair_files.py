"""Pair files in insightface's format, as Python 3 and Python 2 wrote them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path


def write_pairs(path: Path, images, same, protocol: int = pickle.HIGHEST_PROTOCOL) -> Path:
    """As insightface's `lfw2pack.py` does."""
    path.write_bytes(pickle.dumps((list(images), list(same)), protocol))
    return path


def write_python2_pairs(path: Path, images, same) -> Path:
    """As Python 2 did with protocol 2: images are its strings (opcode BINSTRING)."""
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in images)
    answers = b"".join(b"\x88" if answer else b"\x89" for answer in same)
    path.write_bytes(b"\x80\x02](" + strings + b"e](" + answers + b"e\x86.")
    return path
