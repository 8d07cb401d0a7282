"""`load_run`: a trained backbone and head from what `bbs train` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from .. import checkpoint
from ..baskets import Baskets
from ..data import ImageBasket
from ..losses import BasketSoftmaxLoss
from .config import Config
from .datasets import identities_fingerprint, open_datasets
from .model import build_backbone, build_head
from .reading import load_config
from .state import COMPLETE, CONFIG, RunFolder


@dataclass(frozen=True)
class Run:
    """A trained run.

    config: the resolved config; `config.image.build()` is what its backbone takes.
    backbone: in evaluation mode, on `device`: images [B, channels, height, width] to [B, embedding_size].
    head: all class centres, in evaluation mode, on `device`, whatever number of ranks trained them; without the
        aliases of `config.loss.aliases`, which name images that need not be here.
    step: of the checkpoint.
    device: of both.
    identities: `identities_fingerprint` of what was trained; None in a checkpoint that does not hold it.
    fingerprint: of the checkpoint, as `bs.checkpoint.inspect` gives it.
    """

    config: Config
    backbone: nn.Module
    head: BasketSoftmaxLoss
    step: int
    device: torch.device
    identities: str | None = None
    fingerprint: str = ""

    @cached_property
    def baskets(self) -> list[ImageBasket]:
        """What was trained, opened when first asked for: identities in the order of the head's classes.

        Raises:
            ValueError: a basket cannot be opened, or has other identities by now.
        """
        opened = open_datasets(self.config, measured=False).training
        here = tuple((basket.name, len(basket.identities)) for basket in opened)
        there = tuple(zip(self.head.baskets.names, self.head.baskets.sizes, strict=True))
        if here != there:
            raise ValueError(
                f"baskets have the identities {dict(here)} now, the run was trained on {dict(there)}"
            )
        if self.identities not in (None, identities_fingerprint(opened)):
            raise ValueError(
                f"baskets have as many identities as the run was trained on, {dict(there)}, but others: a folder was "
                "renamed, or came and another went, so that classes would get the names of other people"
            )
        return opened


def load_run(path: str | PathLike[str], device: torch.device | str = "cpu") -> Run:
    """Load what `bbs train` wrote.

    Args:
        path: the output folder (its last checkpoint is taken), or one of the folders in its `checkpoints`.
        device: of the backbone and the head.

    The backbone's factory is imported and called: the config is to be trusted like code. Tensors are read with
    weights_only=True.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        ConfigError, BackboneError: the config is not one of this version, or its backbone cannot be made.
    """
    path, device = Path(path), torch.device(device)
    if not (path / COMPLETE).exists():
        steps = RunFolder(path).steps()
        if not steps:
            raise checkpoint.CheckpointError(
                f"{path} holds no checkpoint of bbs train, and none in checkpoints/"
            )
        path = RunFolder(path).checkpoint(steps[-1])
    if not (path / CONFIG).exists():
        raise checkpoint.CheckpointError(f"{path} was not written by bbs train: there is no {CONFIG} in it")
    config = load_config(path / CONFIG)
    manifest = checkpoint.inspect(path, check_files=False)  # load checks them
    backbone, head = build_backbone(config), build_head(config, Baskets(dict(manifest.baskets)))
    extra = checkpoint.load(path, head)
    backbone.load_state_dict(extra["backbone"])
    return Run(
        config,
        backbone.to(device).eval(),
        head.to(device).eval(),
        extra["step"],
        device,
        extra.get("identities"),
        manifest.fingerprint,
    )
