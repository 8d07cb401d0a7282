"""How much memory a run takes on each rank: computed from sizes, and for activations measured on one batch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from .config import Config, Sgd
from .step import Trainer

LINKER = 48  # bytes a class on every rank, beside the prototypes
FLOAT = 4  # bytes; centres, parameters, gradients and optimiser states are fp32


def head_bytes(config: Config, classes: int, world: int = 1) -> dict[str, int]:
    """Of one rank's share of `classes`, computed: {"centres", "centres' gradient", "centres' optimiser state"}.

    With linking also "linker"; a matching needs the prototypes twice more for a moment, on rank 0.
    """
    prototypes = -(-classes // world) * config.backbone.embedding_size * FLOAT
    centres = prototypes * config.loss.subcenters
    optimizer = config.optimizer
    if isinstance(optimizer, Sgd):
        momentum = optimizer.momentum if optimizer.head.momentum is None else optimizer.head.momentum
        states, fused = int(momentum > 0), optimizer.head.fused
    else:
        states, fused = 2, False
    rows = config.loss.sample_rate if config.loss.sparse_grad else 1.0
    gradient = 0 if fused else int(centres * rows)
    found = {"centres": centres, "centres' gradient": gradient, "centres' optimiser state": states * centres}
    if config.loss.linking is not None:
        found["linker"] = prototypes + LINKER * classes
    return found


def backbone_bytes(config: Config, trainer: Trainer) -> dict[str, int]:
    """{"backbone", "backbone's gradient", "backbone's optimiser state"}, computed; under DDP its buckets as well."""
    trained = sum(p.numel() * p.element_size() for p in trainer.backbone.parameters() if p.requires_grad)
    everything = sum(
        t.numel() * t.element_size() for t in (*trainer.backbone.parameters(), *trainer.backbone.buffers())
    )
    optimizer = config.optimizer
    states = int(optimizer.momentum > 0) if isinstance(optimizer, Sgd) else 2
    copies = 1 if trainer.ranks.group is None else 2  # DDP adds gradients up in buckets of its own
    return {
        "backbone": everything,
        "backbone's gradient": copies * trained,
        "backbone's optimiser state": states * trained,
    }


def batch_bytes(config: Config, world: int = 1) -> int:
    """Of the images of one step on one rank, computed."""
    height, width = config.image.height_width
    return -(-config.batch_size // world) * config.image.channels * height * width * FLOAT


def loader_bytes(config: Config, world: int = 1) -> int:
    """Of the batches that the workers keep ready, computed: two each."""
    return max(1, 2 * config.workers) * batch_bytes(config, world)


def available_bytes(device: torch.device) -> int:
    """What this machine, or this GPU, has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        table = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(re.search(r"^MemAvailable:\s*(\d+) kB$", table, re.MULTILINE)[1])  # type: ignore[index]
    except (OSError, TypeError):  # not Linux: without what the page cache could give back
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def size_text(count: int) -> str:
    """Bytes in the largest fitting decimal unit: 1500 is "1.5 KB"."""
    value, units = float(count), ["B", "KB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


class Saved:
    """bytes: of what autograd kept for the backward pass inside `saved_for_backward`, without parameters."""

    bytes = 0


@contextmanager
def saved_for_backward(parameters: Sequence[Tensor]) -> Iterator[Saved]:
    """Counts every storage once."""
    saved, seen = Saved(), {p.untyped_storage().data_ptr() for p in parameters}
    alive: list[Tensor] = []  # or a later tensor would get the address of a freed one and not be counted

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor.detach())
            saved.bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
