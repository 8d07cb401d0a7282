"""Rebuilds python/basket_softmax/data/glyphs.npz from Debian font packages; the same packages give the same file.

    apt-get update && python tools/build_glyphs.py --packages build/fonts

Needs apt-get and dpkg-deb, Pillow and fonttools. Characters: those of both JIS X 0208 and Big5, drawn with a
fixed seed, that every gallery and probe font has.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from glyphs.fonts import FONTS, STYLES
from glyphs.packages import check_licence, fetch, font_file, version
from glyphs.render import render

DATA = Path(__file__).resolve().parent.parent / "python" / "basket_softmax" / "data"
SPLITS = {"training": 250, "validation": 200, "test": 600}
SEED = 20220107
MAX_BYTES = 8 << 20


def shared_kanji() -> list[int]:
    """Code points of the kanji that JIS X 0208 and Big5 have in common, ascending."""
    found = []
    for row in range(0xB0, 0xF5):
        for cell in range(0xA1, 0xFF):
            try:
                character = bytes([row, cell]).decode("euc_jp")
                character.encode("big5")
            except UnicodeError:
                continue
            if len(character) == 1 and 0x4E00 <= ord(character) <= 0x9FFF:
                found.append(ord(character))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=Path, default=Path("build/fonts"), help="folder for the packages")
    folder = parser.parse_args().packages
    folder.mkdir(parents=True, exist_ok=True)

    candidates = shared_kanji()
    order = np.random.default_rng(SEED).permutation(len(candidates))
    wanted = sum(SPLITS.values())
    pool = [candidates[i] for i in order[: 2 * wanted]]  # twice as many: some fonts lack some
    pictures, provenance = [], []
    for font in FONTS:
        tree = fetch(font.package, folder)
        licence = check_licence(font.package, tree)
        pictures.append(render(font_file(tree, font.file), font.face, pool))
        print(f"{font.style:11} {font.file:28} {len(pictures[-1])} of {len(pool)} characters", flush=True)
        origin = (font.package, version(font.package, folder), font.file, font.face)
        provenance.append([*origin, font.family, font.style, font.role, licence])

    evaluation = [i for i, font in enumerate(FONTS) if font.role != "training"]
    chosen = [c for c in pool if all(c in pictures[i] for i in evaluation)][:wanted]
    if len(chosen) < wanted:
        raise RuntimeError(
            f"only {len(chosen)} characters are in every gallery and probe font, {wanted} are needed"
        )
    split = np.repeat(np.arange(len(SPLITS)), list(SPLITS.values())).astype(np.uint8)
    rows = [
        (position, i, pictures[i][codepoint])
        for position, codepoint in enumerate(chosen)
        for i, font in enumerate(FONTS)
        if codepoint in pictures[i] and (split[position] == 0 or font.role != "training")
    ]
    grey = np.stack([picture for _, _, picture in rows]).reshape(len(rows), -1)
    arrays = {
        "packed": grey[:, 0::2] << 4 | grey[:, 1::2],  # two pixels a byte
        "character": np.array([c for c, _, _ in rows], np.uint16),
        "font": np.array([f for _, f, _ in rows], np.uint8),
        "codepoint": np.array(chosen, np.uint32),
        "split": split,
        "style": np.array([STYLES.index(font.style) for font in FONTS], np.uint8),
        "role": np.array([("training", "gallery", "probe").index(font.role) for font in FONTS], np.uint8),
    }
    path = DATA / "glyphs.npz"
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    with (DATA / "glyphs_provenance.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["package", "version", "file", "face", "family", "style", "role", "licence"])
        writer.writerows(provenance)
    size = path.stat().st_size
    print(f"{path}: {len(rows)} glyphs of {len(chosen)} characters, {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise RuntimeError(f"{path}: expected up to {MAX_BYTES} bytes, got {size}")


if __name__ == "__main__":
    main()
