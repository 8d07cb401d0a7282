"""Backbones without batch statistics, for which it does not matter how a batch is spread over ranks."""

import os
import signal

import torch
from torch import nn


def plain(embedding_size: int, channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Two linear layers."""
    inputs = channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, embedding_size))


class _Mortal(nn.Module):
    """Kills its process in training call KILL_CALL of rank KILL_RANK, in torchrun's first life."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        where = os.environ.get("RANK"), str(self.calls), os.environ.get("TORCHELASTIC_RESTART_COUNT")
        if where == (os.environ.get("KILL_RANK"), os.environ.get("KILL_CALL"), "0"):
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def drops_out(embedding_size: int, channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The same with dropout, which draws differently on every rank."""
    return nn.Sequential(plain(embedding_size, channels, image_size), _Mortal(), nn.Dropout(0.2))
