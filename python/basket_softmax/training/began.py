"""What a run began with, as digests in every checkpoint: a resumed run must not go on with something else.

Paths are no part of it, so that images and tables may move. Reading every image would take as long as an epoch: the
bytes of `SAMPLED` images of each basket stand for all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..data import ImageBasket
from .datasets import Datasets, identities_fingerprint

SAMPLED = 64  # images of a basket, evenly spread over it
OTHERS = {
    "data": "the baskets have other identities or images than",
    "images": "the baskets have as many images of the same identities as before, but others than",
    "held_out": "what is measured, held-out identities or pairs, has other images than",
    "aliases": "loss.aliases says of other identities that they are one person than",
}


def what_it_began_with(data: Datasets, aliases: Tensor | None) -> dict[str, str]:
    """SHA-256 by key: of `OTHERS`, and "identities", which says whether a class is still who it was.

    Args:
        aliases: [C] int64 of the trained classes, or None.
    """
    held_out = [*data.held_out, *(pairs.images for pairs in data.pairs)]
    return {
        "data": _labels(data.training),
        "images": _sample(data.training),
        "held_out": _labels(held_out) + _sample(held_out),
        "aliases": "" if aliases is None else hashlib.sha256(aliases.cpu().numpy().tobytes()).hexdigest(),
        "identities": identities_fingerprint(data.training),
    }


def what_changed(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The beginning of a sentence that says what is not as it was; None if all is. A key that is missing is not looked
    at: checkpoints of earlier versions lack some."""
    for key, text in OTHERS.items():
        if before.get(key, now[key]) != now[key]:
            return text
    return None


def _labels(baskets: Sequence[ImageBasket]) -> str:
    """Of names, identities, labels and their order."""
    digest = hashlib.sha256()
    for basket in baskets:
        digest.update(json.dumps([basket.name, basket.identities], ensure_ascii=True).encode())
        digest.update(np.ascontiguousarray(basket.labels).tobytes())
    return digest.hexdigest()


def _sample(baskets: Sequence[ImageBasket]) -> str:
    """Of the bytes of some images. One that cannot be read counts as empty: training says more of it."""
    digest = hashlib.sha256()
    for basket in baskets:
        for i in np.unique(np.linspace(0, len(basket) - 1, SAMPLED).round().astype(np.int64)):
            try:
                content = basket.read(int(i))
            except (OSError, ValueError):  # ValueError: a record without a whole header
                content = b""
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
