"""What a config makes: the backbone and the head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..baskets import Baskets
from ..data import ImageBasket, read_aliases
from ..losses import BasketSoftmaxLoss
from .backbones import make_backbone
from .config import Config
from .datasets import DataError


def build_backbone(config: Config) -> nn.Module:
    """On the CPU, in training mode; a `BackboneError` if the config's factory does not make it."""
    section = config.backbone
    return make_backbone(
        section.factory,
        section.embedding_size,
        config.image.channels,
        config.image.height_width,
        section.args,
    )


def build_head(
    config: Config, baskets: Baskets, aliases: Tensor | None = None, group: Any = None
) -> BasketSoftmaxLoss:
    """The head on the CPU; with a process group this rank's part of it. A `DataError` if these baskets do not fit."""
    section = config.loss
    try:
        return BasketSoftmaxLoss(
            baskets,
            config.backbone.embedding_size,
            margin=section.margin.build(),
            scale=section.scale,
            mining=section.mining.build(),
            aliases=aliases,
            subcenters=section.subcenters,
            sample_rate=section.sample_rate,
            sparse_grad=section.sparse_grad,  # `Config` refuses optimisers that do not take a sparse one
            process_group=group,
            shard=config.parallel.shard,
        )
    except (
        ValueError
    ) as error:  # what only baskets and ranks decide: longer lists than kernels hold, and the like
        raise DataError(f"loss: {error}") from error


def aliases_of(
    config: Config, baskets: list[ImageBasket], sources: list[ImageBasket] | None = None
) -> Tensor | None:
    """[C] int64 of the config's file of known identities; None without one.

    Args:
        baskets: what is trained.
        sources: the same baskets, whole; the file may name identities of theirs that `validation.fraction` holds out,
            and nobody else. None: what else it names is not looked at.
    """
    path = config.loss.aliases
    if path is None:
        return None
    held_out = config.validation is not None and config.validation.fraction is not None
    try:
        if held_out and sources is not None:
            read_aliases(path, sources)
        return read_aliases(path, baskets, unknown="skip" if held_out else "raise")
    except (OSError, ValueError) as error:
        raise DataError(f"loss.aliases: {error}") from error


def aliases_text(aliases: Tensor) -> str:
    """How many trained identities `aliases` makes one person with another; an alias alone changes nothing."""
    counts = torch.bincount(aliases[aliases >= 0])
    counts = counts[counts > 1]
    if len(counts) == 0:
        return "none joins two identities that are trained, so they change nothing"
    return f"{int(counts.sum()):,} identities, {len(counts):,} person{'' if len(counts) == 1 else 's'}"
