"""The demo's network: three strided convolutions and a linear layer, small enough for one core."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import SIZE

WIDTH = 64  # of the embedding
NORMS = ("batch", "group")  # with "group" it does not matter how a batch is split: no statistics over it
CHANNELS_PER_GROUP = 8


def make_model(norm: str = "batch") -> nn.Module:
    """[B, 1, 32, 32] in [-1, 1] to embeddings [B, 64], not normalised; `norm` is one of `NORMS`."""
    layers: list[nn.Module] = []
    channels = 1
    for out, kernel in ((16, 5), (48, 3), (96, 3)):
        layers += [
            nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2, bias=False),
            _norm(norm, nn.BatchNorm2d, out),
            nn.ReLU(inplace=True),
        ]
        channels = out
    features = channels * (SIZE // 8) ** 2
    layers += [nn.Flatten(), nn.Linear(features, WIDTH, bias=False), _norm(norm, nn.BatchNorm1d, WIDTH)]
    model = nn.Sequential(*layers)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _norm(norm: str, batch_norm: type[nn.Module], channels: int) -> nn.Module:
    if norm == "batch":
        return batch_norm(channels)
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


def as_input(images: Tensor) -> Tensor:
    """[B, 32, 32] uint8 to the network's input."""
    return images.float().div(127.5).sub(1.0)[:, None].contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def embed(model: nn.Module, images: Tensor) -> Tensor:
    """Unit embeddings [N, 64] of [N, 32, 32] uint8."""
    model.eval()
    return torch.cat([F.normalize(model(as_input(part))) for part in images.split(512)])
