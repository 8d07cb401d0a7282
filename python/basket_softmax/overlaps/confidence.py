"""How sure a mutual pair is one identity: 1 - its local false discovery rate, from what chance makes of neighbours.

1. Chance is seen inside the baskets. Labels of one basket are trusted, so classes of a basket that are each other's
   nearest there are different identities, found by the same search. Such a pair stands for as many false pairs
   across baskets as there are more pairs of classes to meet by chance: w = pairs across / pairs within.
2. Training treats the two unlike: it pushes classes of a basket apart and may never have compared those of two
   baskets. Both searches also give neighbours that are not mutual, none of which is a match. Their medians and
   interquartile ranges say how the chance cosines have to be moved and stretched to stand for pairs across baskets.
3. local fdr(c) = w * density of moved chance pairs at c / density of found pairs at c, falling in c. The ratio is an
   isotonic regression of "is a chance pair" on c over both samples together. Below the median of the chance cosines
   all found pairs count as chance; if they are more than w explains, as with baskets of very different sizes, w grows.
   One chance pair more, at the largest cosine, keeps a confidence from being 1 for want of evidence.

Sources: local false discovery rate, Efron et al., "Empirical Bayes Analysis of a Microarray Experiment", JASA 2001;
isotonic calibration, Zadrozny and Elkan, KDD 2002. That a matched class cannot be in a false pair of the same two
baskets is not taken into account, which makes the confidence rather too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..matching.search import Neighbours

ENOUGH = 20  # of each sample: with fewer, quartiles and densities mean nothing
GUMBEL_IQR = 1.5725  # interquartile range of the standard Gumbel distribution


class TooFew(ValueError):
    """Samples too small for a confidence; the message says which."""


@dataclass(frozen=True)
class Chance:
    """What false pairs across baskets look like.

    cosine: [Q] fp64, moved. weight: [Q] fp64, how many false pairs across baskets each stands for.
    shift, stretch: how they were moved: median of the neighbours across minus within, and ratio of their spreads.
    """

    cosine: np.ndarray
    weight: np.ndarray
    shift: float
    stretch: float


def chance(within: Sequence[Neighbours], across: Sequence[Neighbours], sizes: Sequence[int]) -> Chance:
    """Steps 1 and 2 above.

    Args:
        within, across: what the two searches found, of every basket and every pair of baskets.
        sizes: classes of each basket.

    Raises:
        TooFew: fewer than 20 chance pairs or neighbours: the baskets are too small for a confidence, or nearly all
            of their classes are in a pair across, so that nothing shows what chance makes there.
    """
    pairs = [found.pairs.cosine.double().numpy() for found in within]
    _check_enough(pairs, within, across, sizes)
    among = float(np.median(np.concatenate([found.among.numpy() for found in within])))
    inside, outside = _median_and_spread(within, among), _median_and_spread(across, among)
    shift, stretch = outside[0] - inside[0], outside[1] / inside[1] if inside[1] > 0 else 1.0
    moved = inside[0] + shift + stretch * (np.concatenate(pairs) - inside[0])
    weight = [
        np.full(len(cosine), _weight(sizes, found.baskets[0]))
        for cosine, found in zip(pairs, within, strict=True)
    ]
    return Chance(moved, np.concatenate(weight), shift, stretch)


def _check_enough(
    pairs: Sequence[np.ndarray],
    within: Sequence[Neighbours],
    across: Sequence[Neighbours],
    sizes: Sequence[int],
) -> None:
    inside, alone, outside = (
        sum(map(len, pairs)),
        *(sum(len(found.alone) for found in side) for side in (within, across)),
    )
    if min(inside, alone, outside) >= ENOUGH:
        return
    baskets = f"baskets of {', '.join(f'{size:,}' for size in sizes)} classes"
    matched = 2 * sum(len(found.pairs.first) for found in across)
    if min(inside, alone) >= ENOUGH and matched >= ENOUGH:
        raise TooFew(
            f"{baskets} have no confidence: {matched:,} of {matched + outside:,} nearest neighbours across baskets are "
            "mutual, as if the baskets were versions of one dataset, and too few are left to show what chance makes "
            f"across baskets: {outside}, needed are {ENOUGH}"
        )
    raise TooFew(
        f"{baskets} are too small for a confidence: they give {inside} mutual pairs within baskets, {alone} other "
        f"neighbours within and {outside} across, needed are {ENOUGH} of each"
    )


def confidence(cosine: np.ndarray, null: Chance) -> np.ndarray:
    """Step 3: the confidence of mutual pairs across baskets.

    Args:
        cosine: [P] of all mutual pairs that were found, not of some of them: their density counts.
        null: from the same search.

    Returns:
        [P] fp64 in [0, 1), rising with the cosine.
    """
    from sklearn.isotonic import (
        IsotonicRegression,
    )  # slow to load, and an extra: the search is used without it

    if len(cosine) == 0:
        return np.empty(0)
    cosine = cosine.astype(np.float64)
    top = max(cosine.max(), null.cosine.max())
    is_chance = np.repeat([0.0, 1.0], [len(cosine), len(null.cosine) + 1])
    heavier = null.weight * max(1.0, _missing(cosine, null))
    weight = np.concatenate((np.ones(len(cosine)), heavier, [heavier.mean()]))
    fit = IsotonicRegression(y_min=0, y_max=1, increasing=False)
    fit.fit(np.concatenate((cosine, null.cosine, [top])), is_chance, weight)
    share = fit.predict(cosine)  # of chance among all; the ratio of the densities is share / (1 - share)
    return 1 - np.minimum(1, share / np.maximum(1 - share, 1e-12))


def _missing(cosine: np.ndarray, null: Chance) -> float:
    """Found pairs for each that chance explains, where all are chance: below the median of the chance cosines."""
    middle = np.median(null.cosine)
    return float((cosine <= middle).sum() / null.weight[null.cosine <= middle].sum())


def _weight(sizes: Sequence[int], a: int) -> float:
    """False pairs across baskets for each pair within basket `a`, which shares the work with the other basket.

    Two baskets of one class have no pair within that could stand for the one across; it is left to the others.
    """
    within = [size * (size - 1) / 2 for size in sizes]
    others = (b for b in range(len(sizes)) if b != a and within[a] + within[b] > 0)
    return sum(sizes[a] * sizes[b] / (within[a] + within[b]) for b in others)


def _median_and_spread(found: Sequence[Neighbours], among: float) -> tuple[float, float]:
    """Of the neighbours that are not mutual, as if all were the nearest of `among` classes.

    A maximum of n values with an exponential tail grows by slope * log(n); that is evened out, so that baskets of
    different sizes can be compared. The slope comes from the spread itself, hence twice.
    """
    cosine = np.concatenate([one.alone.double().numpy() for one in found])
    growth = np.log(np.concatenate([one.among.numpy() for one in found]) / among)
    spread = _iqr(cosine)
    for _ in range(2):
        alone = cosine - spread / GUMBEL_IQR * growth
        spread = _iqr(alone)
    return float(np.median(alone)), spread


def _iqr(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)
