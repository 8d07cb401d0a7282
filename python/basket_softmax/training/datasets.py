"""The baskets of a run: opened, and cut into identities that are trained and identities that are held out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..data import ImageBasket, VerificationPairs, open_basket, read_pairs
from .config import Config, HeldOut, Validation

FOLDS = 10  # of pairs


class Datasets(NamedTuple):
    """training, held_out: baskets without a common identity of one source; held_out may be empty.

    sources: whole, as they were opened, all with different names: what a check looks at.
    pairs: of `validation.pairs`.
    """

    training: list[ImageBasket]
    held_out: list[ImageBasket]
    sources: list[ImageBasket]
    pairs: Sequence[VerificationPairs] = ()


def open_datasets(config: Config, measured: bool = True) -> Datasets:
    """Open all baskets of a run.

    Args:
        measured: also what is only measured: validation.baskets and validation.pairs.

    Raises:
        DataError: a basket or a pair file that cannot be opened, or is too small for what the config asks of it.
    """
    opened = _open(config.baskets, "baskets")
    validation = config.validation
    if validation is None or (not measured and validation.fraction is None):
        return Datasets(opened, [], opened)
    pairs = _pairs(validation) if measured else []
    if validation.baskets is None and validation.fraction is None:
        return Datasets(opened, [], opened, pairs)
    if validation.baskets is not None:
        held_out = _open(validation.baskets, "validation.baskets")
        sources = [*opened, *(replace(basket, name=f"held out, {basket.name}") for basket in held_out)]
        return Datasets(opened, [_measurable(b, validation, config.seed) for b in held_out], sources, pairs)
    training, held_out = [], []
    for basket in opened:
        kept, apart = _split(basket, validation, config.seed)
        training.append(kept)
        held_out.append(_measurable(apart, validation, config.seed))
    return Datasets(training, held_out, opened, pairs)


class DataError(ValueError):
    """Data that cannot be trained on; the message names the key of the config and the place."""


def remarks(config: Config, data: Datasets) -> list[str]:
    """What a run would do to no purpose, and without a word; empty as a rule."""
    found = []
    if sum(len(basket.identities) for basket in data.training) == 1:
        found.append(
            "one identity alone has no negatives: its loss is 0 from the first step, and nothing is learnt"
        )
    held_out = {} if config.validation is None else config.validation.baskets or {}
    for name, measured in held_out.items():
        for other, trained in config.baskets.items():
            if measured.path.resolve() == trained.path.resolve():
                found.append(
                    f"validation.baskets.{name} is baskets.{other}: what is measured on it says nothing of people who "
                    "were not trained"
                )
    return found


def identities_fingerprint(baskets: list[ImageBasket]) -> str:
    """SHA-256 of names and identities, in the order of the classes: whether a class is still who it was."""
    named = [[basket.name, basket.identities] for basket in baskets]
    return hashlib.sha256(json.dumps(named, ensure_ascii=True).encode()).hexdigest()


def _open(sources: Mapping[str, HeldOut], key: str) -> list[ImageBasket]:
    opened = []
    for name, source in sources.items():
        columns = {"image_column": source.image_column, "identity_column": source.identity_column}
        try:
            with warnings.catch_warnings():  # what a basket leaves out is in its `skipped`, and shown with it
                warnings.simplefilter("ignore", UserWarning)
                opened.append(open_basket(source.path, name, **columns))
        except (OSError, ValueError) as error:
            text = str(error)  # of open_basket, whose argument `path` is a key here
            between = "." if text.startswith("path: expected ") else ": "
            raise DataError(f"{key}.{name}{between}{text}") from error
    return opened


def _pairs(validation: Validation) -> list[VerificationPairs]:
    found = []
    for name, path in (validation.pairs or {}).items():
        try:
            pairs = read_pairs(path, name)
        except (OSError, ValueError) as error:
            raise DataError(f"validation.pairs.{name}: {error}") from error
        if len(pairs.same) < FOLDS:
            raise DataError(
                f"validation.pairs.{name}: expected {FOLDS} pairs or more, got {len(pairs.same)} in {path}"
            )
        found.append(pairs)
    return found


def _generator(seed: int, basket: ImageBasket) -> np.random.Generator:
    """Of this basket, whatever others there are."""
    return np.random.default_rng([seed, *basket.name.encode()])


def _split(basket: ImageBasket, validation: Validation, seed: int) -> tuple[ImageBasket, ImageBasket]:
    """(trained, held out). Identities with one image stay in training: they have nothing to be recognised by."""
    assert validation.fraction is not None
    identities = len(basket.identities)
    paired = np.flatnonzero(basket.images_per_identity > 1)
    wanted = max(2, round(validation.fraction * identities))
    if len(paired) < wanted or wanted >= identities:
        raise DataError(
            f"validation.fraction: expected a fraction that the {len(paired)} identities with two images of basket "
            f"{basket.name!r} can give, got {validation.fraction}, which holds out {wanted} of {identities} identities"
        )
    apart = np.sort(_generator(seed, basket).choice(paired, wanted, replace=False))
    return basket.select(np.setdiff1d(np.arange(identities), apart)), basket.select(apart)


def _measurable(basket: ImageBasket, validation: Validation, seed: int) -> ImageBasket:
    """At most `max_images` of it, in whole identities: all pairs are compared."""
    counts = basket.images_per_identity
    order = _generator(seed, basket).permutation(len(counts))
    chosen = basket.select(np.sort(order[np.cumsum(counts[order]) <= validation.max_images]))
    if len(chosen.identities) < 2 or not (chosen.images_per_identity > 1).any():
        raise DataError(
            f"validation.max_images: expected to hold at least two identities of basket {basket.name!r}, one of them "
            f"with two images, got {len(chosen.identities)} within {validation.max_images}"
        )
    return chosen
