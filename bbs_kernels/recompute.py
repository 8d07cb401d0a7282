"""Running statistics that a batch moves once, also where activation checkpointing runs its forward pass again.

Checkpointing runs a forward pass a second time, inside the backward pass. Were statistics moved then too, they would
count the batch twice, and the second pass would compute another loss than the first, whose gradient it is to give. So
nothing moves inside a backward pass, and the second pass reads what the first one used: it is found again by two sums
over the batch's target cosines, on the device, so that nothing waits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

HELD = 64  # forward passes whose statistics are kept; so many may wait for their backward pass at a time


def in_backward() -> bool:
    """Return True inside a backward pass, where a forward pass is the second run of an earlier one.

    torch.compile traces no backward pass, and under it this is False.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@torch.no_grad()
def moved_once(buffers: tuple[Tensor, ...], moved: tuple[Tensor, ...], cos_t: Tensor) -> tuple[Tensor, ...]:
    """Write `moved` to `buffers` and return it; in a second run, write nothing and return what the first one used.

    Args:
        buffers: the running statistics, changed in place, but not in a second run.
        moved: their values after this batch, of the same shapes and dtypes.
        cos_t: [B] target cosines of the batch, by which a second run finds its first; those not finite are left out.
    """
    # Of inference_mode no backward pass comes, and tensors made there could not be written to later.
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        _write(buffers, moved)
        return moved
    finite = torch.where(cos_t.isfinite(), cos_t, 0.0)
    batch = torch.stack([finite.sum(), finite.square().sum()])
    passes = _PASSES.get(buffers[0])
    if in_backward():
        return buffers if passes is None else passes.find(batch)
    _write(buffers, moved)
    if passes is None:
        passes = _PASSES[buffers[0]] = Passes(batch, moved)
    passes.note(batch, moved)
    return moved


class Passes:
    """The last `HELD` forward passes of one set of statistics.

    batches: [HELD, 2], the sums that tell a batch from others. used: of each statistic [HELD, …], what the pass used.
    """

    def __init__(self, batch: Tensor, used: tuple[Tensor, ...]) -> None:
        self.batches = batch.new_full((HELD, len(batch)), torch.inf)
        self.used = tuple(value.new_zeros((HELD, *value.shape)) for value in used)
        self.count = 0

    def note(self, batch: Tensor, used: tuple[Tensor, ...]) -> None:
        """Keep a pass, in place of the oldest."""
        at = self.count % HELD
        _write((self.batches[at], *(values[at] for values in self.used)), (batch, *used))
        self.count += 1

    def find(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return what the pass of this batch used; of the last such pass, where the same batch came twice.

        The nearest batch is taken, since a backbone that is not deterministic changes a batch by rounding.
        """
        distance = (self.batches - batch).abs().amax(1)
        recency = (torch.arange(HELD, device=batch.device) - self.count) % HELD  # HELD - 1 for the last pass
        at = torch.where(distance == distance.amin(), recency, -1).argmax(0, keepdim=True)
        return tuple(values.index_select(0, at)[0] for values in self.used)


_PASSES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # {the first of some buffers: its `Passes`}


def _write(buffers: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)
