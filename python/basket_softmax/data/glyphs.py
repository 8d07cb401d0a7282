"""The shipped characters: identities with many samples each (fonts), real domain shift (styles) and a known truth.

A character is an identity, a font one sample of it, a style (gothic, ming, kai, decorative) a domain. Fonts and
their licences: `glyphs_provenance.csv` beside this file; the script that builds it is in the repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

SIZE = 40
SPLITS = ("training", "validation", "test")
ROLES = ("training", "gallery", "probe")


@dataclass(frozen=True)
class Glyphs:
    """N pictures of C characters in F fonts.

    images: [N, 40, 40] uint8, 0 … 255, white on black.
    character: [N] int64, index into `codepoint`; font: [N] int64, index into `style` and `role`.
    codepoint: [C] int64; split: [C] int64, index into `SPLITS`; characters of one split are in no other.
    style: [F] int64 in 0 … 3; role: [F] int64, index into `ROLES`. Gallery and probe fonts share no family.
    """

    images: np.ndarray
    character: np.ndarray
    font: np.ndarray
    codepoint: np.ndarray
    split: np.ndarray
    style: np.ndarray
    role: np.ndarray

    def select(self, split: str) -> np.ndarray:
        """Indices of the pictures whose character is in `split` ("training", "validation" or "test")."""
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(map(repr, SPLITS))}, got {split!r}")
        return np.flatnonzero(self.split[self.character] == SPLITS.index(split))

    def fonts(self, role: str) -> np.ndarray:
        """Indices of the fonts with that role."""
        if role not in ROLES:
            raise ValueError(f"role: expected one of {', '.join(map(repr, ROLES))}, got {role!r}")
        return np.flatnonzero(self.role == ROLES.index(role))


def load_glyphs() -> Glyphs:
    """Read the file that ships with the package; about 5 MB, no network."""
    with files(__package__).joinpath("glyphs.npz").open("rb") as file, np.load(file) as arrays:
        packed = arrays["packed"]
        pixels = np.stack([packed >> 4, packed & 15], axis=2).reshape(len(packed), SIZE, SIZE)
        names = ("character", "font", "codepoint", "split", "style", "role")
        return Glyphs(pixels * np.uint8(17), *(arrays[name].astype(np.int64) for name in names))
