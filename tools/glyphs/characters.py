"""Which characters, and which of them train, validate and test.

Candidates are the kanji of JIS X 0208 that Big5 has too: written in Japan and in Taiwan, so that fonts of both regions
draw them. One shuffle with a fixed seed orders them; the splits are consecutive runs of those that every font used in
evaluation really draws, so they never share a character.
"""

from __future__ import annotations

import numpy as np

SEED = 20240607
COUNTS = {"train": 250, "val": 200, "test": 1000}
_JIS_ROWS = range(0x30, 0x75)  # the kanji rows of JIS X 0208, levels 1 and 2
_JIS_CELLS = range(0x21, 0x7F)
_CJK_UNIFIED = range(0x4E00, 0xA000)


def candidates() -> list[int]:
    """Code points of JIS X 0208 kanji that Big5 can encode, in a fixed random order."""
    found = []
    for row in _JIS_ROWS:
        for cell in _JIS_CELLS:
            char = bytes([row + 0x80, cell + 0x80]).decode("euc_jp", errors="ignore")
            if len(char) == 1 and ord(char) in _CJK_UNIFIED and char.encode("big5", errors="ignore"):
                found.append(ord(char))
    order = np.random.RandomState(SEED).permutation(len(found))
    return [found[i] for i in order]


def split(usable: np.ndarray) -> dict[str, np.ndarray]:
    """Positions (in candidate order) of each split's characters, given a bool mask of the usable candidates."""
    pool, need = np.flatnonzero(usable), sum(COUNTS.values())
    if len(pool) < need:
        raise SystemExit(f"only {len(pool)} characters are drawn by every font that must have them, {need} are needed")
    ends = np.cumsum(list(COUNTS.values()))
    return {name: pool[end - COUNTS[name] : end] for name, end in zip(COUNTS, ends, strict=True)}
