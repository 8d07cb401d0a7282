"""`MixedBaskets`: several image baskets as one dataset for `DataLoader`, with `MixedBasketSampler` for the batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..baskets import Baskets
from .basket import ImageBasket
from .image import ImageFormat
from .random_view import Augment


class MixedBaskets(Dataset[tuple[Tensor, int, int]]):
    """All images of all baskets, basket after basket: item i is (image, label, basket).

    image: [C, H, W] fp32 in [-1, 1]; label: in its basket, from 0; basket: its index. A `DataLoader` stacks them
    into what `BasketSoftmaxLoss` takes: `loss(backbone(image), label, basket=basket)`.

    The view that an augmentation makes of image i depends on (seed, epoch, i) alone: on no worker, no order and no
    earlier batch, so a resumed run sees the same pixels. `set_epoch` reaches workers that are already running.

    Args:
        baskets: with different names.
        image_format: what every image becomes.
        augment: None for images as they are.
        seed: of the augmentation.

    Attributes:
        images: the baskets, a tuple.
        baskets: `bs.Baskets`, names and numbers of identities.
        offsets: [K + 1] int64, the images of basket b are offsets[b] … offsets[b+1]-1.

    Raises:
        TypeError, ValueError: no basket, something else than baskets, a name twice.
    """

    def __init__(
        self,
        baskets: Sequence[ImageBasket],
        image_format: ImageFormat,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.images = tuple(baskets)
        for b, basket in enumerate(self.images):
            if not isinstance(basket, ImageBasket):
                raise TypeError(f"baskets[{b}]: expected an ImageBasket, got {type(basket).__name__}")
        if not self.images:
            raise ValueError("baskets: expected at least one, got none")
        names = [basket.name for basket in self.images]
        if len(set(names)) != len(names):
            raise ValueError(f"baskets: expected different names, got {', '.join(map(repr, names))}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: expected an int >= 0, got {seed!r}")
        self.baskets = Baskets({basket.name: len(basket.identities) for basket in self.images})
        self.offsets: Tensor = torch.tensor(
            [0, *accumulate(len(basket) for basket in self.images)], device="cpu"
        )
        self.image_format = image_format
        self.augment = augment
        self.seed = seed
        epoch = torch.zeros((), dtype=torch.int64, device="cpu")
        self._epoch = epoch.share_memory_()  # one number for all worker processes

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose views the next iteration gives."""
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch: expected an int >= 0, got {epoch!r}")
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The epoch that `set_epoch` chose, 0 at first."""
        return int(self._epoch)

    @property
    def basket(self) -> Tensor:
        """[N] int64, the basket of each image: what `MixedBasketSampler` takes."""
        return torch.repeat_interleave(torch.arange(len(self.images), device="cpu"), self.offsets.diff())

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def locate(self, i: int) -> tuple[int, int]:
        """(basket, image in it) of item i; an IndexError if there is none."""
        if not 0 <= i < len(self):
            raise IndexError(f"i: expected 0 to {len(self) - 1}, got {i}")
        b = int(torch.searchsorted(self.offsets, i, right=True)) - 1
        return b, int(i) - int(self.offsets[b])

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        b, j = self.locate(i)
        basket = self.images[b]
        image = self.image_format(basket.image(j), basket.where(j))
        if self.augment is not None:
            image = self.augment(image, self._generator(int(i)))
        return image, int(basket.labels[j]), b

    def _generator(self, i: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, self.epoch, i]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))
