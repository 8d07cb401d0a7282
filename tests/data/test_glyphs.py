"""The shipped characters: what the file promises, and that rendering it again is not needed to trust it."""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
import pytest
import torch

from basket_softmax.data import augment, load_glyphs, views


@pytest.fixture(scope="module")
def glyphs():
    return load_glyphs()


def test_splits_are_disjoint_and_complete_where_they_are_measured(glyphs):
    by_split = [set(glyphs.character[glyphs.select(s)].tolist()) for s in ("training", "validation", "test")]
    assert [len(s) for s in by_split] == [250, 200, 600]
    assert not (by_split[0] & by_split[1] | by_split[0] & by_split[2] | by_split[1] & by_split[2])
    for split in ("validation", "test"):
        chosen = glyphs.select(split)
        for font in [*glyphs.fonts("gallery"), *glyphs.fonts("probe")]:
            characters = glyphs.character[chosen][glyphs.font[chosen] == font]
            assert (
                len(characters)
                == len(set(characters.tolist()))
                == len(by_split[1 if split == "validation" else 2])
            )


def test_no_blank_and_no_replacement_box(glyphs):
    assert (glyphs.images.reshape(len(glyphs.images), -1).max(axis=1) > 128).all()
    for font in range(len(glyphs.style)):
        pictures = glyphs.images[glyphs.font == font]
        assert len({p.tobytes() for p in pictures}) == len(pictures)


def test_seven_fonts_of_each_style_and_one_gallery_font(glyphs):
    assert np.bincount(glyphs.style).tolist() == [7, 7, 7, 7]
    assert sorted(glyphs.style[glyphs.fonts("gallery")]) == [0, 1, 2, 3]


def test_provenance_is_open_and_families_do_not_cross_from_gallery_to_probe():
    with files("basket_softmax.data").joinpath("glyphs_provenance.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 28
    assert {row["licence"] for row in rows} == {"OFL-1.1"}
    families = {role: {row["family"] for row in rows if row["role"] == role} for role in ("gallery", "probe")}
    assert not families["gallery"] & families["probe"]


def test_file_is_small_enough_to_ship():
    assert files("basket_softmax.data").joinpath("glyphs.npz").stat().st_size <= 8 << 20


def test_unknown_names(glyphs):
    with pytest.raises(
        ValueError, match="split: expected one of 'training', 'validation', 'test', got 'train'"
    ):
        glyphs.select("train")
    with pytest.raises(ValueError, match=r"role: expected one of .*, got 'query'"):
        glyphs.fonts("query")


def test_views_differ_repeat_with_the_seed_and_fade_with_strength(glyphs):
    images = torch.from_numpy(glyphs.images[:16])
    pool = views(images, 3, torch.Generator().manual_seed(1))
    assert pool.shape == (16, 3, 32, 32)
    assert pool.dtype == torch.uint8
    assert not torch.equal(pool[:, 0], pool[:, 1])
    assert torch.equal(pool, views(images, 3, torch.Generator().manual_seed(1)))
    plain = augment(images, torch.Generator().manual_seed(1), 0.0)
    assert torch.equal(plain, augment(images, torch.Generator().manual_seed(2), 0.0))
    distance = [
        (augment(images, torch.Generator().manual_seed(1), s).float() - plain.float()).abs().mean()
        for s in (0.1, 1.0)
    ]
    assert distance[0] < distance[1]
