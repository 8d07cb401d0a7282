"""Data: image datasets as baskets, batches that mix them, and the characters of the demo."""

from .aliases import read_aliases, write_aliases
from .augment import augment, views
from .basket import ImageBasket
from .check import check_baskets
from .check_report import CheckReport
from .glyphs import Glyphs, load_glyphs
from .image import ImageFormat, UnreadableImage
from .mixed import MixedBaskets
from .opening import open_basket
from .pairs import VerificationPairs, read_pairs
from .random_view import Augment
from .sampler import MixedBasketSampler

__all__ = [
    "Augment",
    "CheckReport",
    "Glyphs",
    "ImageBasket",
    "ImageFormat",
    "MixedBasketSampler",
    "MixedBaskets",
    "UnreadableImage",
    "VerificationPairs",
    "augment",
    "check_baskets",
    "load_glyphs",
    "open_basket",
    "read_aliases",
    "read_pairs",
    "views",
    "write_aliases",
]
