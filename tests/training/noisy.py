"""A backbone that draws from every generator there is, so that a resumed run shows any that was not restored."""

import random

import numpy as np
import torch
from torch import nn


class Noisy(nn.Module):
    """A linear layer on noisy pixels, dropout, batch normalisation."""

    def __init__(self, embedding_size: int, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        inputs = channels * image_size[0] * image_size[1]
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, embedding_size)
        )
        self.norm = nn.BatchNorm1d(embedding_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            shift = random.uniform(-0.1, 0.1) + float(np.random.normal(scale=0.1))  # noqa: NPY002 - the global one
            images = images + shift + 0.1 * torch.randn_like(images)
        return self.norm(self.layers(images))
