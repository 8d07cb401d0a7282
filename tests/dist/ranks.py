"""What bodies ask of the ranks and of the messages of a call."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


def of_every_rank(tensor: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """Return the tensor of each rank; all ranks ask, with the same shape."""
    every = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for _ in range(dist.get_world_size(group))
    ]
    dist.all_gather(every, tensor.detach().contiguous(), group=group)
    return every


def warnings_with(text: str, call: Callable[[], object]) -> list[str]:
    """Return the warnings of `call()` that contain `text`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [message for each in caught if text in (message := str(each.message))]
