"""The generators that a backbone, a margin or a head may draw from: torch's, Python's and NumPy's global ones."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_alike(seed: int) -> None:
    """Before weights are drawn: the same ones on every rank."""
    _seed(seed)


def seed_apart(seed: int, rank: int) -> None:
    """Before the first step: what a step draws (dropout, sampled classes) differs between ranks."""
    _seed((seed + 1) * 1_000_003 + rank)


def random_state(device: torch.device) -> dict[str, Any]:
    """Of all of them, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the one that others draw from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
