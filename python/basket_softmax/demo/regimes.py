"""How the characters become datasets: which font belongs to which basket, which characters each basket has.

Both regimes draw the characters of each basket independently, so the same identity stands in several baskets
under different labels, and nobody tells the loss. The truth is kept for the oracle only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data import Glyphs


@dataclass(frozen=True)
class Regime:
    """name; characters: per basket; k: mined negatives per other basket; steps: of training; title: for people."""

    name: str
    characters: int
    k: int
    steps: int
    title: str

    def basket_of_font(self, glyphs: Glyphs) -> np.ndarray:
        """[F] int64."""
        place = np.concatenate([np.arange((glyphs.style == s).sum()) for s in range(4)])  # within its style
        if self.name == "style":
            return glyphs.style
        return 2 * ((place + glyphs.style) % 7) + glyphs.style % 2


REGIMES = {
    "many": Regime("many", 50, 16, 600, "14 baskets of 50 characters in 2 fonts of different styles"),
    "style": Regime("style", 150, 16, 600, "4 baskets of 150 characters, one basket per style"),
}


@dataclass(frozen=True)
class TrainingSet:
    """image: [N] indices of pictures; basket, label: [N], label from 0 in each basket; identity: [N] the truth.

    sizes: classes of each basket.
    """

    image: np.ndarray
    basket: np.ndarray
    label: np.ndarray
    identity: np.ndarray
    sizes: tuple[int, ...]


def draw_training_set(glyphs: Glyphs, regime: Regime, seed: int) -> TrainingSet:
    """The datasets of one seed; classes are numbered by character, those without a picture are left out."""
    rng = np.random.default_rng([2201, seed])
    font_basket = regime.basket_of_font(glyphs)
    image = glyphs.select("training")
    basket, character = font_basket[glyphs.font[image]], glyphs.character[image]
    pool = np.unique(character)
    label = np.full(len(image), -1)
    sizes = []
    for b in range(font_basket.max() + 1):
        drawn = rng.choice(pool, regime.characters, replace=False)
        mine = (basket == b) & np.isin(character, drawn)
        present, label[mine] = np.unique(character[mine], return_inverse=True)
        sizes.append(len(present))
    used = label >= 0
    return TrainingSet(image[used], basket[used], label[used], character[used], tuple(sizes))


def with_wrong_labels(data: TrainingSet, share: float, seed: int) -> TrainingSet:
    """The same pictures with `share` of the labels wrong: each replaced by another class of its own basket.

    Args:
        data: as drawn.
        share: in [0, 1]; round(share * N) pictures are drawn without regard to basket or class.
        seed: of the draw; the same seed gives the same pictures and labels.

    Returns:
        A copy whose `identity` is that of the given label: who the pictures are said to show. The oracle, which merges
        the labels of one identity, therefore knows which classes belong together and not which labels are wrong.

    Raises:
        ValueError: `share` is outside [0, 1], or a basket has one class only.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share: expected a number from 0 to 1, got {share}")
    if share > 0.0 and min(data.sizes) < 2:
        raise ValueError(f"sizes: expected baskets of two classes or more, got {data.sizes}")
    rng = np.random.default_rng([2202, seed])
    wrong = rng.choice(len(data.label), round(share * len(data.label)), replace=False)
    sizes = np.asarray(data.sizes)[data.basket[wrong]]
    label = data.label.copy()
    label[wrong] = (label[wrong] + rng.integers(1, sizes)) % sizes  # never the old one
    offset = np.concatenate([[0], np.cumsum(data.sizes)])
    identity_of = np.empty(offset[-1], np.int64)
    identity_of[offset[data.basket] + data.label] = data.identity
    return replace(data, label=label, identity=identity_of[offset[data.basket] + label])
