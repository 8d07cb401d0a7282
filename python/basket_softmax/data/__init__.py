"""Data: image datasets as baskets, batches that mix them, and the characters of the demo."""

from .augment import augment, views
from .basket import ImageBasket
from .glyphs import Glyphs, load_glyphs
from .image import ImageFormat, UnreadableImage
from .mixed import MixedBaskets
from .opening import open_basket
from .random_view import Augment
from .sampler import MixedBasketSampler

__all__ = [
    "Augment",
    "Glyphs",
    "ImageBasket",
    "ImageFormat",
    "MixedBasketSampler",
    "MixedBaskets",
    "UnreadableImage",
    "augment",
    "load_glyphs",
    "open_basket",
    "views",
]
