"""Draws one character of one face as 40x40 pixels of 16 grey levels, normalised to its bounding box.

Drawn large and reduced by area, so that thin strokes keep their ink. The longer side of the ink becomes 36 pixels, the
shape keeps its proportions. A cmap promises more glyphs than a font draws: `None` stands for blank, and `drop_repeats`
finds the placeholder box, which is one picture under many code points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

SIZE, INK = 40, 36
_EM, _PAD = 160, 40
_MIN_INK = 8  # of the 160-pixel em: anything smaller is a stray dot, not a kanji
_LEVELS = 17  # 255 / 17 = 15: the step between two of the 16 grey levels
_UNASSIGNED = "\U0010fffd"  # what a font shows for a character it lacks


class Face:
    """A face opened for drawing; `covers(cp)` is what its cmap claims."""

    def __init__(self, path: Path, index: int) -> None:
        self._font = ImageFont.truetype(str(path), _EM, index=index, layout_engine=ImageFont.Layout.BASIC)
        with TTFont(path, fontNumber=index, lazy=True) as font:
            self._cmap = frozenset(font.getBestCmap())
        tofu = self._draw(_UNASSIGNED)
        self._tofu = None if tofu is None else tofu.tobytes()

    def covers(self, codepoint: int) -> bool:
        return codepoint in self._cmap

    def draw(self, codepoint: int) -> np.ndarray | None:
        """uint8 [40, 40] with values 0..15, or None where the face lacks the character or draws nothing."""
        if not self.covers(codepoint):
            return None
        glyph = self._draw(chr(codepoint))
        return None if glyph is None or glyph.tobytes() == self._tofu else glyph

    def _draw(self, char: str) -> np.ndarray | None:
        canvas = Image.new("L", (_EM + 2 * _PAD, _EM + 2 * _PAD + _EM // 2), 0)
        ImageDraw.Draw(canvas).text((_PAD, _PAD), char, fill=255, font=self._font)
        box = canvas.getbbox()
        if box is None or max(box[2] - box[0], box[3] - box[1]) < _MIN_INK:
            return None
        ink = canvas.crop(box)
        scale = INK / max(ink.size)
        width, height = (max(1, round(side * scale)) for side in ink.size)
        small = np.asarray(ink.resize((width, height), Image.Resampling.BOX))
        out = np.zeros((SIZE, SIZE), np.uint8)
        top, left = (SIZE - height) // 2, (SIZE - width) // 2
        out[top : top + height, left : left + width] = (small.astype(np.uint16) + _LEVELS // 2) // _LEVELS
        return out


def drop_repeats(glyphs: list[np.ndarray | None]) -> int:
    """Sets to None, in place, every glyph of one face that occurs under more than one character; returns how many."""
    seen: dict[bytes, list[int]] = {}
    for i, glyph in enumerate(glyphs):
        if glyph is not None:
            seen.setdefault(glyph.tobytes(), []).append(i)
    repeated = [i for group in seen.values() if len(group) > 1 for i in group]
    for i in repeated:
        glyphs[i] = None
    return len(repeated)
