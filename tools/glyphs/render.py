"""A character as a 40 x 40 picture: drawn large, cut to its bounding box, fitted into 34 x 34, centred, 4-bit grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fontTools.ttLib import TTCollection, TTFont
from PIL import Image, ImageDraw, ImageFont

SIZE = 40
BOX = 34  # the longer side of a glyph; the rest is room for augmentation
DRAWN = 64  # pixels per em when drawn
SMALLEST = 8  # a box smaller than this on both sides is a dot, not a character


def coverage(path: Path, face: int) -> set[int]:
    """Code points that the font says it has; it may overstate, see `drop_repeated`."""
    font = TTCollection(path, lazy=True).fonts[face] if path.suffix == ".ttc" else TTFont(path, lazy=True)
    return set(font.getBestCmap())


def render(path: Path, face: int, codepoints: list[int]) -> dict[int, np.ndarray]:
    """{code point: [40, 40] uint8 in 0..15} of the characters that the font really draws."""
    font = ImageFont.truetype(str(path), DRAWN, index=face)
    known = coverage(path, face)
    pictures = {}
    for codepoint in codepoints:
        if codepoint not in known:
            continue
        canvas = Image.new("L", (2 * DRAWN, 2 * DRAWN), 0)
        ImageDraw.Draw(canvas).text((DRAWN // 2, DRAWN // 4), chr(codepoint), fill=255, font=font)
        box = canvas.getbbox()
        if box is None or max(box[2] - box[0], box[3] - box[1]) < SMALLEST:
            continue
        glyph = canvas.crop(box)
        shrink = BOX / max(glyph.size)
        width, height = (max(1, round(side * shrink)) for side in glyph.size)
        glyph = glyph.resize(
            (width, height), Image.Resampling.BOX if shrink < 1 else Image.Resampling.BICUBIC
        )
        picture = np.zeros((SIZE, SIZE), np.uint8)
        top, left = (SIZE - height) // 2, (SIZE - width) // 2
        picture[top : top + height, left : left + width] = (np.asarray(glyph, np.uint16) * 15 + 127) // 255
        pictures[codepoint] = picture
    return drop_repeated(pictures)


def drop_repeated(pictures: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Without pictures that stand for several characters: the replacement box of a missing glyph."""
    users: dict[bytes, list[int]] = {}
    for codepoint, picture in pictures.items():
        users.setdefault(picture.tobytes(), []).append(codepoint)
    return {c: p for c, p in pictures.items() if len(users[p.tobytes()]) == 1}
