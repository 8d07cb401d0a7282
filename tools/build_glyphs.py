"""Rebuilds the glyph file that the package ships, from Debian font packages under the SIL Open Font License.

    apt-get update && python tools/build_glyphs.py           # needs Pillow, fonttools, numpy; about five minutes

Deterministic: fixed fonts, fixed seed, no time stamps; the same packages and the same Pillow and FreeType give the same
bytes. Writes glyphs.npz and the provenance table beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import PIL
from glyphs import characters, debian, pack, render
from glyphs.fonts import FONTS, STYLES, TRAIN
from PIL import features

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 8 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "python/basket_softmax/data", help="folder to write to")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/fonts", help="folder for the downloaded packages")
    args = parser.parse_args()

    packages = debian.fetch(sorted({font.package for font in FONTS}), args.cache)
    codepoints = characters.candidates()
    usable, drawn = np.ones(len(codepoints), bool), []
    start = time.time()
    for font in FONTS:
        face = render.Face(packages[font.package].root / "usr/share/fonts" / font.path, font.face)
        glyphs = [face.draw(cp) for cp in codepoints]
        repeats = render.drop_repeats(glyphs)
        has = np.array([g is not None for g in glyphs])
        usable &= has | font.partial
        drawn.append(glyphs)
        print(f"{font.name:28s} {has.mean():6.1%} drawn, {repeats} repeated, {time.time() - start:5.0f} s", file=sys.stderr)

    args.output.mkdir(parents=True, exist_ok=True)
    target = args.output / "glyphs.npz"
    size = pack.write_npz(target, collect(codepoints, drawn, characters.split(usable)))
    (args.output / "glyphs_provenance.md").write_text(provenance(packages), encoding="utf-8")
    print(f"{target}: {size / 2**20:.2f} MiB from {usable.sum()} usable characters")
    if size > MAX_BYTES:
        raise SystemExit(f"{target} is larger than {MAX_BYTES} bytes")


def collect(codepoints: list[int], drawn: list[list[np.ndarray | None]], splits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of the file. Every font for the training characters; gallery and probe fonts for the others."""
    pixels, char_of, font_of = [], [], []
    order = np.concatenate(list(splits.values()))
    split_of = np.repeat(np.arange(len(splits)), [len(v) for v in splits.values()])
    for f, font in enumerate(FONTS):  # font by font: neighbours look alike and compress better
        for c, position in enumerate(order):
            glyph = drawn[f][position]
            if glyph is not None and (split_of[c] == 0 or font.role != TRAIN):
                pixels.append(glyph)
                char_of.append(c)
                font_of.append(f)
    return {
        "pixels": pack.pack_pixels(np.stack(pixels)),
        "char": np.array(char_of, np.uint16),
        "font": np.array(font_of, np.uint8),
        "codepoint": np.array([codepoints[i] for i in order], np.uint32),
        "split": split_of.astype(np.uint8),
        "split_names": np.array(list(splits)),
        "style_names": np.array(STYLES),
        "font_names": np.array([font.name for font in FONTS]),
        "font_family": np.array([font.family for font in FONTS]),
        "font_style": np.array([STYLES.index(font.style) for font in FONTS], np.uint8),
        "font_role": np.array([font.role for font in FONTS]),
    }


def provenance(packages: dict[str, debian.Package]) -> str:
    """The table that names the source and the licence of every face."""
    head = [
        "# Where the glyphs come from",
        "",
        "`glyphs.npz` holds pictures of characters drawn from these fonts by `tools/build_glyphs.py`; no font file is shipped.",
        "All are under the [SIL Open Font License 1.1](https://openfontlicense.org), as the copyright file of each Debian",
        "package states; where that file offers a choice, the OFL is the one taken.",
        f"Drawn with Pillow {PIL.__version__} and FreeType {features.version('freetype2')}.",
        "",
        "| # | style | role | family | font file | face | Debian package | version | licence field |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for i, font in enumerate(FONTS):
        pkg = packages[font.package]
        cells = (i, font.style, font.role, font.family, font.path.rsplit("/", 1)[-1], font.face, pkg.name, pkg.version, pkg.licence)
        head.append("| " + " | ".join(map(str, cells)) + " |")
    head += ["", "## Copyright holders", ""]
    head += [f"- `{name}`: {packages[name].holders}" for name in sorted(packages)]
    return "\n".join(head) + "\n"


if __name__ == "__main__":
    main()
