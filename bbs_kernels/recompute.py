"""Running statistics that a batch moves once, also where activation checkpointing runs its forward pass again.

Checkpointing runs a forward pass a second time, inside the backward pass. Were statistics moved then too, they would
count the batch twice, and the second pass would compute another loss than the first, whose gradient it is to give. So
every checkpointed region keeps what its passes used, in their order, for as long as its graph lives, and a second run
of the region reads these instead of moving anything. Outside of such regions nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .checkpoint_regions import regions_of_caller

Statistics = tuple[Tensor, ...]
Result = TypeVar("Result")

_UNKNOWN = (
    "running statistics: expected a training forward pass outside a backward pass, or one that "
    "torch.utils.checkpoint runs again, got one inside a backward pass that has no first run; call .eval() before a "
    "forward pass in a hook"
)


class Passes:
    """What the passes of one region used, in the order of its first run, and how far a second run has come."""

    def __init__(self) -> None:
        self.used: list[Statistics] = []
        self._run = -1  # graph task of the second run
        self._at = 0

    def next(self, run: int) -> Statistics | None:
        """Return what the next pass of the second run `run` used; None beyond those of the first run."""
        if run != self._run:
            self._run, self._at = run, 0
        self._at += 1
        return self.used[self._at - 1] if self._at <= len(self.used) else None


_PASSES: WeakKeyDictionary[Any, Passes] = WeakKeyDictionary()  # by region


@torch.no_grad()
def moved_once(buffers: Statistics, moved: Statistics) -> Statistics:
    """Write `moved` to `buffers` and return it; in a second run, write nothing and return what the first one used.

    A margin of one's own that keeps statistics calls this once in each forward pass in training, and computes with
    what it returns.

    Args:
        buffers: the running statistics, of any shapes and dtypes; changed in place, but not in a second run.
        moved: their values after this batch, of the same shapes and dtypes, in memory of their own. What is returned
            has no gradient, whatever `moved` has: a repeated pass could not give it one.

    Raises:
        RuntimeError: inside a backward pass that does not run an earlier pass again.
    """
    moved = tuple(value.detach() for value in moved)
    if torch.compiler.is_compiling():
        used = [torch.empty_like(value) for value in moved]
        _moved_once_op(list(buffers), list(moved), used)
        return tuple(used)
    return _moved_once(buffers, moved)


def _moved_once(buffers: Statistics, moved: Statistics) -> Statistics:
    if torch.is_inference_mode_enabled():  # no backward pass comes of it
        _write(buffers, moved)
        return moved
    task = torch._C._current_graph_task_id()  # -1 outside of a backward pass
    running, repeated = regions_of_caller()
    if repeated is None:
        used = moved if task == -1 else None
    else:
        passes = _PASSES.get(repeated)
        used = None if passes is None else passes.next(task)
    if used is None:
        raise RuntimeError(_UNKNOWN)
    for region in running:
        _PASSES.setdefault(region, Passes()).used.append(used)
    if repeated is None:
        _write(buffers, moved)
    return used


@torch.library.custom_op("bbs_kernels::moved_once", mutates_args=("buffers", "used"))
def _moved_once_op(buffers: list[Tensor], moved: list[Tensor], used: list[Tensor]) -> None:
    """`moved_once` inside a graph of torch.compile, which calls it in every run; the result goes to `used`."""
    _write(used, _moved_once(tuple(buffers), tuple(value.clone() for value in moved)))


def called_as_before(module: Any, call: Callable[..., Result], *arguments: Any) -> Result:
    """Return `call(*arguments)`, in which `module` must not write its buffers where it is a second run.

    Under torch.compile nothing is compared.

    Raises:
        RuntimeError: it did, by itself and not by `moved_once`: its statistics would count the batch twice.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._current_graph_task_id() == -1
        or not isinstance(module, nn.Module)
    ):
        return call(*arguments)
    before = _writes(module)
    result = call(*arguments)
    if _writes(module) != before:
        raise RuntimeError(
            f"margin: expected one that moves its running statistics by bs.moved_once, got {type(module).__name__}, "
            "which writes its buffers again where activation checkpointing repeats a forward pass"
        )
    return result


def _writes(module: nn.Module) -> list[tuple[int, int]]:
    """Return which tensors the buffers are, and how often each was written to."""
    return [(id(buffer), 0 if buffer.is_inference() else buffer._version) for buffer in module.buffers()]


def _write(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)
