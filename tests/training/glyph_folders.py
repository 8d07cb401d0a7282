"""Tiny image folders of real characters: overlapping baskets, and one of characters that are in none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from basket_softmax.data import load_glyphs


def write_baskets(
    folder: Path, baskets: int = 2, identities: int = 6, images: int = 4, held_out: int = 4
) -> None:
    """basket0, basket1, …: each shares half of its characters with the next; `held`: other characters."""
    glyphs = load_glyphs()
    characters = np.unique(glyphs.character[glyphs.select("training")])
    step = identities // 2
    for b in range(baskets):
        _write(folder / f"basket{b}", glyphs, characters[b * step : b * step + identities], images)
    _write(folder / "held", glyphs, characters[-held_out:], images)


def _write(folder: Path, glyphs: object, characters: np.ndarray, images: int) -> None:
    for number, character in enumerate(characters):
        place = folder / f"id{number:03d}"
        place.mkdir(parents=True)
        for i in np.flatnonzero(glyphs.character == character)[:images]:
            Image.fromarray(glyphs.images[i]).resize((16, 16)).save(place / f"{i}.png")
