"""Data: a batch sampler that mixes baskets, and the characters of the demo."""

from .augment import augment, views
from .glyphs import Glyphs, load_glyphs
from .sampler import MixedBasketSampler

__all__ = ["Glyphs", "MixedBasketSampler", "augment", "load_glyphs", "views"]
