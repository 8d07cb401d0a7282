"""Recognition of unseen characters across fonts: rank-1 and TAR at FAR 1e-3 and 1e-4.

Gallery: the first font of each style, as drawn. Probes: other families, augmented, each against the galleries of
other styles that were in another basket. Figures are over all such pairs of font and gallery.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Glyphs, augment
from ..evaluation import rank_k, roc
from .model import embed

PROBE_STRENGTH = 0.85
PROBE_SEED = 7  # the same probes for every rule and seed


def recognise(model: nn.Module, glyphs: Glyphs, split: str, basket_of_font: np.ndarray) -> dict[str, float]:
    """{"rank1", "tar_1e3", "tar_1e4"}, fractions in [0, 1]."""
    gallery = {int(f): _embed_font(model, glyphs, split, f, 0.0) for f in glyphs.fonts("gallery")}
    ranks: list[float] = []
    scores: list[Tensor] = []
    same: list[Tensor] = []
    for probe in glyphs.fonts("probe"):
        embedded = _embed_font(model, glyphs, split, probe, PROBE_STRENGTH)
        for font, known in gallery.items():
            if glyphs.style[font] == glyphs.style[probe] or basket_of_font[font] == basket_of_font[probe]:
                continue
            table = embedded @ known.t()
            identity = torch.arange(len(table))
            ranks.append(rank_k(table, identity, identity))
            scores.append(table.flatten())
            same.append(torch.eye(len(table), dtype=torch.bool).flatten())
    curve = roc(torch.cat(scores), torch.cat(same))
    return {
        "rank1": float(np.mean(ranks)),
        "tar_1e3": curve.tar_at(1e-3),
        "tar_1e4": curve.tar_at(1e-4),
    }


def _embed_font(model: nn.Module, glyphs: Glyphs, split: str, font: int, strength: float) -> Tensor:
    """Embeddings of the split's characters in one font, in the order of the characters."""
    chosen = glyphs.select(split)
    chosen = chosen[glyphs.font[chosen] == font]
    chosen = chosen[np.argsort(glyphs.character[chosen])]
    generator = torch.Generator().manual_seed(PROBE_SEED + int(font))
    return embed(model, augment(torch.from_numpy(glyphs.images[chosen]), generator, strength))
