"""Backbones: images [B, channels, height, width] to embeddings [B, embedding_size], not normalised.

`IResNet` is the residual network of face recognition: a stem that keeps the resolution, blocks that begin with a
normalisation and use PReLU, and a head of normalisation, dropout, one linear layer over all positions, normalisation.
Source: Deng et al., "ArcFace", CVPR 2019, section 3.1 (after Han et al., "Deep Pyramidal Residual Networks",
CVPR 2017, for the block).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """BN, 3x3 convolution, BN, PReLU, 3x3 convolution with the stride, BN; beside it the input, projected if needed."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.PReLU(out),
            nn.Conv2d(out, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        return self.body(x) + self.shortcut(x)


class IResNet(nn.Module):
    """A residual network for aligned images of one size.

    Args:
        layers: blocks per stage; every stage halves the resolution, and doubles the channels up to 8 x `width`.
        embedding_size: D.
        channels: of the image.
        image_size: (height, width) in pixels.
        width: channels of the stem and the first stage.
        dropout: before the last linear layer.

    Raises:
        ValueError: a number that is not positive, or dropout outside [0, 1).
    """

    def __init__(
        self,
        layers: Sequence[int],
        embedding_size: int,
        channels: int = 3,
        image_size: tuple[int, int] = (112, 112),
        width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, numbers in (
            ("layers", layers),
            ("embedding_size, channels and width", (embedding_size, channels, width)),
        ):
            if not numbers or min(numbers) < 1:
                raise ValueError(f"{name}: expected numbers from 1, got {tuple(numbers)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a number in [0, 1), got {dropout}")
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        blocks: list[nn.Module] = []
        before, (height, wide) = width, image_size
        for stage, count in enumerate(layers):
            out = width * min(2**stage, 8)
            blocks += [Block(before if i == 0 else out, out, 2 if i == 0 else 1) for i in range(count)]
            before, height, wide = out, -(-height // 2), -(-wide // 2)
        self.blocks = nn.Sequential(*blocks)
        self.embed = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(before * height * wide, embedding_size),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.1 if isinstance(module, nn.Conv2d) else 0.01)

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, height, width] to [B, embedding_size]."""
        features = self.blocks(self.stem(images))
        # The last layer meets thousands of positions: under autocast it is kept in fp32, as insightface does.
        with torch.autocast(features.device.type, enabled=False):
            return self.embed(features.to(next(self.embed.parameters()).dtype))


def iresnet(
    embedding_size: int,
    channels: int,
    image_size: tuple[int, int],
    layers: Sequence[int] = (1, 1, 1),
    width: int = 16,
    dropout: float = 0.0,
) -> IResNet:
    """Of any depth and width; by default a small one, for a CPU and images of 32 x 32."""
    return IResNet(layers, embedding_size, channels, image_size, width, dropout)


def iresnet18(
    embedding_size: int, channels: int, image_size: tuple[int, int], dropout: float = 0.0
) -> IResNet:
    """2, 2, 2 and 2 blocks; 24 M parameters at 112 x 112 with 512 dimensions."""
    return IResNet((2, 2, 2, 2), embedding_size, channels, image_size, dropout=dropout)


def iresnet50(
    embedding_size: int, channels: int, image_size: tuple[int, int], dropout: float = 0.0
) -> IResNet:
    """3, 4, 14 and 3 blocks; 44 M parameters at 112 x 112 with 512 dimensions."""
    return IResNet((3, 4, 14, 3), embedding_size, channels, image_size, dropout=dropout)


def iresnet100(
    embedding_size: int, channels: int, image_size: tuple[int, int], dropout: float = 0.0
) -> IResNet:
    """3, 13, 30 and 3 blocks; 65 M parameters at 112 x 112 with 512 dimensions."""
    return IResNet((3, 13, 30, 3), embedding_size, channels, image_size, dropout=dropout)


class BackboneError(ValueError):
    """A factory that cannot be found, called, or whose network does not fit; the message says which."""


def make_backbone(
    factory: str, embedding_size: int, channels: int, image_size: tuple[int, int], args: dict[str, Any]
) -> nn.Module:
    """The network that `factory` makes, tried on two empty images.

    Args:
        factory: `module:callable`, called with `embedding_size`, with `channels` and `image_size` (height, width) if
            it takes them, and with `args`; or `timm:NAME`, if timm is installed.

    Raises:
        BackboneError: see there.
    """
    if factory.startswith("timm:"):
        network = _timm(factory.removeprefix("timm:"), embedding_size, channels, args)
    else:
        make = _find(factory)
        known = {"embedding_size": embedding_size, "channels": channels, "image_size": image_size}
        try:
            accepted = inspect.signature(make).parameters
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
                known = {
                    key: value for key, value in known.items() if key in accepted or key == "embedding_size"
                }
            network = make(**{**known, **args})
        except (TypeError, ValueError) as error:
            raise BackboneError(f"backbone.factory {factory}: {error}") from error
    _check(network, factory, embedding_size, (channels, *image_size))
    return network


def _find(factory: str) -> Callable[..., Any]:
    module, _, name = factory.partition(":")
    try:
        found = getattr(import_module(module), name)
    except ImportError as error:
        raise BackboneError(f"backbone.factory is {factory!r}: {error}") from error
    except AttributeError:
        raise BackboneError(f"backbone.factory is {factory!r}: {module} has no {name!r}") from None
    if not callable(found):
        raise BackboneError(f"backbone.factory is {factory!r}: {name!r} cannot be called")
    return found


def _timm(name: str, embedding_size: int, channels: int, args: dict[str, Any]) -> nn.Module:
    try:
        timm = import_module("timm")
    except ImportError:
        raise BackboneError(
            f"backbone.factory is 'timm:{name}', which needs timm: pip install timm"
        ) from None
    except RuntimeError as error:  # a torchvision for another torch
        raise BackboneError(
            f"backbone.factory is 'timm:{name}', but importing timm fails: {error}"
        ) from error
    try:
        return timm.create_model(name, **{"num_classes": embedding_size, "in_chans": channels, **args})
    except (RuntimeError, TypeError) as error:
        raise BackboneError(f"backbone.factory timm:{name}: {error}") from error


@torch.no_grad()
def _check(network: Any, factory: str, embedding_size: int, shape: tuple[int, ...]) -> None:
    """That it makes [2, D] of two images. Afterwards it is in training mode, whatever it was."""
    if not isinstance(network, nn.Module):
        raise BackboneError(
            f"backbone.factory: expected an nn.Module from {factory}, got {type(network).__name__}"
        )
    network.eval()
    try:
        found = network(torch.zeros(2, *shape))
    except RuntimeError as error:
        raise BackboneError(
            f"backbone.factory {factory} does not take images {list(shape)}: {error}"
        ) from error
    network.train()
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if got != (2, embedding_size):
        raise BackboneError(
            f"backbone.factory: expected embeddings of backbone.embedding_size, (2, {embedding_size}) of 2 images, "
            f"from {factory}, got {got}"
        )
