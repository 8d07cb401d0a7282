"""Write image folders with known overlaps, to try training, `bbs overlaps` and linking without any data of your own.

    python examples/glyph_folders.py OUT

Characters that ship with the package stand for people, their fonts for photos of them:

    OUT/basket0/0001/…png   one folder per basket, one folder per identity; a basket has fonts of its own
    OUT/held-out/…          people of no basket: for validation
    OUT/truth.csv           basket,identity,person: who is who; rows with the same person are one

The folders' names tell nothing: identities are numbered in a random order of each basket's own. With the same options
the same images are written.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from basket_softmax.data import Glyphs, load_glyphs

HELD_OUT = "held-out"
OVERLAP = "Part of a basket's people that are in all baskets."


def plan_people(
    pool: np.ndarray, baskets: int, identities: int, shared: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """The characters of each basket, in random order: `shared` are in all of them, the others in one each."""
    people = rng.permutation(pool)
    own = identities - shared
    parts = [people[shared + b * own : shared + (b + 1) * own] for b in range(baskets)]
    return [rng.permutation(np.concatenate([people[:shared], part])) for part in parts]


def distinct(glyphs: Glyphs) -> Glyphs:
    """Without pictures that are there twice: two of the fonts have the same kanji."""
    first: dict[bytes, int] = {}
    for i, picture in enumerate(glyphs.images):
        first.setdefault(picture.tobytes(), i)
    kept = list(first.values())
    return replace(
        glyphs, images=glyphs.images[kept], character=glyphs.character[kept], font=glyphs.font[kept]
    )


def write_basket(
    folder: Path, glyphs: Glyphs, people: np.ndarray, fonts: np.ndarray
) -> list[tuple[str, str, str]]:
    """Images of `people` in `fonts`; returns the truth's rows, identities numbered in the order given."""
    rows = []
    of_fonts = np.isin(glyphs.font, fonts)
    for number, character in enumerate(people, start=1):
        name = f"{number:04d}"
        (folder / name).mkdir(parents=True)
        for image in np.flatnonzero(of_fonts & (glyphs.character == character)):
            Image.fromarray(glyphs.images[image]).save(folder / name / f"{glyphs.font[image]:02d}.png")
        rows.append((folder.name, name, f"U+{glyphs.codepoint[character]:04X}"))
    return rows


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--baskets", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--identities", type=click.IntRange(1), default=100, show_default=True, help="People per basket."
)
@click.option("--overlap", type=click.FloatRange(0, 1), default=0.3, show_default=True, help=OVERLAP)
@click.option(
    "--held-out", type=click.IntRange(0, 600), default=100, show_default=True, help="People of no basket."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(out: Path, baskets: int, identities: int, overlap: float, held_out: int, seed: int) -> None:
    glyphs, rng = distinct(load_glyphs()), np.random.default_rng([4103, seed])
    pool = np.flatnonzero(glyphs.split == 0)
    shared = round(overlap * identities)
    needed = shared + baskets * (identities - shared)
    if needed > len(pool):
        wanted = f"{baskets} baskets of {identities} people, {shared} of them shared"
        raise click.UsageError(f"{wanted}, are {needed} people, but there are {len(pool)}")
    if out.exists() and any(out.iterdir()):
        raise click.UsageError(f"{out} is not empty")
    fonts = np.arange(len(glyphs.style))  # ordered by style, so that every basket gets some of each
    rows = []
    for b, people in enumerate(plan_people(pool, baskets, identities, shared, rng)):
        rows += write_basket(out / f"basket{b}", glyphs, people, fonts[b::baskets])
    people = rng.permutation(np.flatnonzero(glyphs.split == 2))[:held_out]
    if held_out:
        rows += write_basket(out / HELD_OUT, glyphs, people, fonts)
    with (out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("basket", "identity", "person"), *rows])
    files = sum(1 for _ in out.glob("*/*/*.png"))
    made = f"{baskets} baskets of {identities} people, {shared} in all of them; {held_out} held out"
    click.echo(f"{out}: {made}; {files:,} images")


if __name__ == "__main__":
    main()
