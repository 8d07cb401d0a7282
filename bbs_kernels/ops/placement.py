"""Tell on which side the ops of a tensor run: the one question behind every device branch of the package."""

from __future__ import annotations

from torch import Tensor

EMULATED = False  # set by tests with an emulated GPU, where tensors of the CPU stand for those of a device


def on_device(t: Tensor) -> bool:
    """Return whether the ops of a tensor run on a device: asynchronously, with errors that are reported later."""
    return EMULATED or t.device.type != "cpu"
