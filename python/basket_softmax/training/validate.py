"""Recognition of held-out identities: rank-1 and TAR@FAR, for each held-out basket and on average; accuracy on pairs.

Rank-1: the first image of each identity is the gallery, all others are probes. TAR@FAR: every pair of images of a
basket. Baskets are not mixed: whether someone of one basket is someone of another is what nobody knows. Pairs are
measured as papers do: accuracy in ten folds, with the embeddings of an image and of its mirror image added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data import ImageBasket, ImageFormat, MixedBaskets, VerificationPairs
from ..data.loading import read_batches
from ..evaluation import fold_accuracy, rank_k, roc
from .datasets import FOLDS
from .diverged import ADVICE, Diverged
from .ranks import Ranks

PROBES = 1024  # scored at a time


@torch.no_grad()
def embed(
    backbone: nn.Module,
    basket: ImageBasket,
    image_format: ImageFormat,
    ranks: Ranks,
    batch_size: int,
    workers: int,
    mirrored: bool = False,
) -> Tensor:
    """Unit embeddings [N, D] fp32 on the CPU, of all images and on every rank; each rank computes its share.

    With `mirrored` the embeddings of an image and of its mirror image are added before they get unit length.
    The backbone is in evaluation mode meanwhile, and in fp32. Its buffers become those of rank 0 on every rank, as DDP
    makes them before the next step anyway, and as a checkpoint has them: running means of BatchNorm differ between
    ranks, and a network must not be measured as several.

    Raises:
        Diverged: on every rank, when an embedding is NaN or Inf.
    """
    ranks.take_first(backbone.buffers())
    dataset = MixedBaskets([basket], image_format)
    own = range(ranks.rank, len(dataset), ranks.world)
    loader = DataLoader(
        Subset(dataset, own), batch_size, num_workers=workers, generator=torch.Generator().manual_seed(0)
    )
    was_training = backbone.training
    backbone.eval()
    parts = []
    for images, _, _ in read_batches(loader):
        images = images.to(ranks.device)
        features = backbone(images).float()
        if mirrored:
            features = features + backbone(images.flip(-1)).float()
        parts.append(F.normalize(features).cpu())
    backbone.train(was_training)
    shares = ranks.from_all(torch.cat(parts) if parts else None)
    width = next(share.shape[1] for share in shares if share is not None)
    embeddings = torch.empty(len(dataset), width)
    for rank, share in enumerate(shares):
        if share is not None:
            embeddings[rank :: ranks.world] = share
    if not bool(embeddings.isfinite().all()):
        raise Diverged(f"embeddings of basket {basket.name!r} are NaN or Inf: {ADVICE}")
    return embeddings


def recognition_rates(embeddings: Tensor, labels: np.ndarray, fars: Sequence[float]) -> dict[str, float]:
    """{"rank1": …, "tar@0.001": …}, fractions in [0, 1].

    Args:
        embeddings: [N, D], unit length.
        labels: [N] identities; at least two of them, and one with two images.
        fars: false acceptance rates, fractions.
    """
    identity = torch.from_numpy(labels)
    first = torch.from_numpy(np.unique(labels, return_index=True)[1])
    probe = torch.ones(len(labels), dtype=torch.bool)
    probe[first] = False
    found = {"rank1": _rank1(embeddings, identity, first, torch.nonzero(probe).flatten())}
    rows, columns = torch.triu_indices(len(labels), len(labels), 1)
    scores = (embeddings @ embeddings.t())[rows, columns]
    curve = roc(scores, identity[rows] == identity[columns])
    return {**found, **{f"tar@{far:g}": curve.tar_at(far) for far in fars}}


def _rank1(embeddings: Tensor, identity: Tensor, gallery: Tensor, probes: Tensor) -> float:
    hits = 0.0
    for part in probes.split(PROBES):
        scores = embeddings[part] @ embeddings[gallery].t()
        hits += rank_k(scores, identity[part], identity[gallery]) * len(part)
    return hits / len(probes)


def validate(
    backbone: nn.Module,
    held_out: Sequence[ImageBasket],
    image_format: ImageFormat,
    ranks: Ranks,
    fars: Sequence[float],
    batch_size: int,
    workers: int,
    pairs: Sequence[VerificationPairs] = (),
) -> dict[str, float]:
    """A row of validation.csv: the means over the baskets, then every basket's own numbers; likewise of the pairs."""
    each, answers = {}, {}
    for basket in held_out:
        embeddings = embed(backbone, basket, image_format, ranks, batch_size, workers)
        each[basket.name] = recognition_rates(embeddings, basket.labels, fars) if ranks.first else {}
    for images, same in pairs:
        embeddings = embed(backbone, images, image_format, ranks, batch_size, workers, mirrored=True)
        if ranks.first:
            cosines = (embeddings[0::2] * embeddings[1::2]).sum(1)
            answers[images.name] = {"accuracy": float(fold_accuracy(cosines, same, FOLDS).mean())}
    return {**_with_means(each), **_with_means(answers)} if ranks.first else {}


def _with_means(each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{key: mean}, then {key/name: number} where there are several."""
    keys = next(iter(each.values()), {})
    row = {key: sum(found[key] for found in each.values()) / len(each) for key in keys}
    if len(each) > 1:
        row.update((f"{key}/{name}", found[key]) for name, found in each.items() for key in keys)
    return row
