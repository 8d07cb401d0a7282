"""`ImageBasket`: one dataset of encoded images with its own labels, whatever it is stored in.

Ten million images cost a few arrays of ten million numbers and one string of all paths, no Python object each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .image import open_image
from .skipped import Skipped

if TYPE_CHECKING:
    from PIL import Image


class ImageSource(Protocol):
    """N encoded images; can be pickled, and read by several processes and threads at once."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> bytes:
        """The encoded image i; an OSError if it cannot be had."""

    def where(self, i: int) -> str:
        """Path of image i, or file and record."""

    def take(self, images: np.ndarray) -> ImageSource:
        """Those images alone, in that order."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageBasket:
    """N images of n identities; `bs.data.open_basket` makes one.

    name: of the basket, unique within a training run.
    identities: n names; identity c is the local label c.
    labels: [N] int64 in 0 … n-1; every identity has an image.
    source: the N encoded images.
    skipped: what was found and left out on opening.

    Raises:
        TypeError, ValueError: labels of another dtype, shape or range; equal names; an identity without an image.
    """

    name: str
    identities: list[str]
    labels: np.ndarray
    source: ImageSource
    skipped: Skipped = field(default_factory=Skipped)

    def __post_init__(self) -> None:
        labels, classes = self.labels, len(self.identities)
        if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.ndim != 1:
            what = (
                f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
            )
            raise TypeError(f"labels: expected an int64 array [N], got {what}")
        if len(labels) != len(self.source):
            raise ValueError(f"labels: expected one per image, {len(self.source)}, got {len(labels)}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels: expected 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        if len(set(self.identities)) != classes:
            raise ValueError(f"identities has {classes - len(set(self.identities))} repeated names")
        empty = np.flatnonzero(self.images_per_identity == 0)
        if len(empty):
            raise ValueError(f"identity {self.identities[empty[0]]!r} of basket {self.name!r} has no image")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"ImageBasket({self.name!r}: {len(self):,} images of {len(self.identities):,} identities)"

    def read(self, i: int) -> bytes:
        """The encoded image i, as it is stored (JPEG, PNG, …); an OSError if it is missing."""
        return self.source.read(self._index(i))

    def image(self, i: int) -> Image.Image:
        """Image i, decoded, in its own size and mode.

        Raises:
            UnreadableImage: missing or damaged; the message says where it is.
            ImportError: Pillow is missing.
        """
        return open_image(lambda: self.read(i), self.where(i))

    def where(self, i: int) -> str:
        """Path of image i, or file and record: for messages and pages."""
        return self.source.where(self._index(i))

    @cached_property
    def images_per_identity(self) -> np.ndarray:
        """[n] int64."""
        return np.bincount(self.labels, minlength=len(self.identities))

    def images_of(self, identity: int) -> np.ndarray:
        """Indices of the images of the identity with that label, ascending, int64."""
        if isinstance(identity, bool) or not isinstance(identity, Integral):
            raise TypeError(f"identity: expected an int, its label, got {identity!r}")
        if not 0 <= identity < len(self.identities):
            raise ValueError(f"identity: expected 0 to {len(self.identities) - 1}, got {identity}")
        order, first = self._by_identity
        return order[first[identity] : first[identity + 1]]

    def select(self, identities: Sequence[int] | np.ndarray) -> ImageBasket:
        """The basket of these identities alone: `identities[j]` becomes the label j.

        Args:
            identities: different labels, in any order.

        Raises:
            TypeError, ValueError: not integers, out of range or repeated.
        """
        chosen: Any = np.asarray(identities)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise TypeError(f"identities: expected integers [n], got {chosen.dtype} {list(chosen.shape)}")
        chosen = chosen.astype(np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self.identities):
            bounds = f"0 to {len(self.identities) - 1}"
            raise ValueError(f"identities: expected {bounds}, got {chosen.min()} to {chosen.max()}")
        if len(np.unique(chosen)) != len(chosen):
            raise ValueError("identities: expected different labels, got one twice")
        new = np.full(len(self.identities), -1, np.int64)
        new[chosen] = np.arange(len(chosen))
        labels = new[self.labels]
        images = np.flatnonzero(labels >= 0)
        names = [self.identities[c] for c in chosen]
        return ImageBasket(self.name, names, labels[images], self.source.take(images), self.skipped)

    @cached_property
    def _by_identity(self) -> tuple[np.ndarray, np.ndarray]:
        """Images ordered by label [N], and where each label begins [n + 1]."""
        return np.argsort(self.labels, kind="stable"), np.r_[0, np.cumsum(self.images_per_identity)]

    def _index(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"i: expected 0 to {len(self) - 1}, got {i}")
        return int(i)
