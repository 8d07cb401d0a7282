"""Prototypes of trained classes: the mean of the unit embeddings of a class's images, one pass, class-wise sums.

They find one identity in two baskets better than the head's centres do: training pushes the centres of a pair that
mining missed apart, while its images still look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data import ImageBasket, ImageFormat, MixedBaskets
from ..data.loading import read_batches


@torch.no_grad()
def class_prototypes(
    backbone: nn.Module,
    baskets: Sequence[ImageBasket],
    image_format: ImageFormat,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """The mean unit embedding of each class.

    Args:
        backbone: images [B, channels, H, W] fp32 in [-1, 1] to embeddings [B, D]; on `device`. It is in evaluation
            mode meanwhile.
        baskets: in the order of the head's classes.
        image_format: what the backbone takes; images are not augmented.
        device: of the backbone.
        batch_size: images per step.
        workers: processes that read images; 0 reads them here.
        progress: called with the number of images of every step.

    Returns:
        [C, D] fp32 on the CPU. Embeddings without a direction (norm below 1e-12) count as zero.

    Raises:
        UnreadableImage: an image is missing or damaged.
        ValueError: the backbone gives something else than [B, D], or values that are not finite; the message says of
            which image.
    """
    dataset = MixedBaskets(baskets, image_format)
    # The loader draws a seed for its workers from this generator, and so leaves torch's own alone.
    loader = DataLoader(dataset, batch_size, num_workers=workers, generator=torch.Generator())
    sums: Tensor | None = None
    was_training = backbone.training
    backbone.eval()
    try:
        done = 0
        for images, labels, basket in read_batches(loader):
            embeddings = backbone(images.to(device)).float().cpu()
            _check(embeddings, len(images), dataset, done)
            norms = embeddings.norm(dim=1, keepdim=True)
            unit = torch.where(norms >= 1e-12, embeddings / norms, 0.0)
            if sums is None:
                sums = torch.zeros(dataset.baskets.num_classes, unit.shape[1])
            sums.index_add_(0, dataset.baskets.to_global(labels, basket), unit)
            done += len(images)
            if progress is not None:
                progress(len(images))
    finally:
        backbone.train(was_training)
    if sums is None:
        raise ValueError("baskets: expected at least one image, got none")
    counts = torch.cat([torch.from_numpy(b.images_per_identity) for b in baskets])
    return sums / counts[:, None]  # every identity has an image, ImageBasket sees to it


def _check(embeddings: Tensor, rows: int, dataset: MixedBaskets, first: int) -> None:
    if embeddings.dim() != 2 or len(embeddings) != rows:
        raise ValueError(f"backbone: expected [{rows}, D] for {rows} images, got {tuple(embeddings.shape)}")
    wrong = ~embeddings.isfinite().all(1)
    if bool(wrong.any()):
        b, i = dataset.locate(first + int(wrong.nonzero()[0]))
        raise ValueError(f"backbone: expected finite values, got NaN or Inf for {dataset.images[b].where(i)}")
