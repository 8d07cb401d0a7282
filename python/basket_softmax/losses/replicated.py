"""Heads that every rank holds whole, and whether somebody averages the gradient of their centres.

A head without a process group is right on several ranks as long as a wrapper (DistributedDataParallel, FSDP) averages
its gradient. Without one every rank steps on the gradient of its own batch, and the centres become different without an
error. A wrapper does not tell the modules that it holds; this file knows by what they can notice it.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor  # slow to import


def world_size() -> int:
    """Return the number of ranks of the default process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def running_ddp(parameter: Tensor) -> DistributedDataParallel | None:
    """Return the DistributedDataParallel whose forward runs now, if it averages the gradient of `parameter`."""
    wrapper = _running()
    return wrapper if wrapper is not None and _averages(wrapper, parameter) else None


def is_sharded(parameter: Any) -> TypeGuard[DTensor]:
    """Return whether `parameter` is a DTensor, as fully_shard puts there; its class is slow to import."""
    return hasattr(parameter, "full_tensor")


def overwritten_by_ddp(buffer: Tensor) -> bool:
    """Return whether the DistributedDataParallel whose forward runs now gives every rank the `buffer` of rank 0."""
    wrapper = _running()
    if wrapper is None:
        return False
    return any(
        found is buffer and name not in wrapper.parameters_to_ignore
        for name, found in wrapper.module.named_buffers()
    )


def _running() -> DistributedDataParallel | None:
    return getattr(DistributedDataParallel, "_active_ddp_module", None)


def _averages(wrapper: DistributedDataParallel, parameter: Tensor) -> bool:
    return any(p is parameter for p in getattr(wrapper, "_module_parameters", ()))


class ReplicatedHead(nn.Module):
    """Base of the heads that warn, once, when several ranks hold them whole and nobody averages their gradient."""

    _centres: ClassVar[str] = "weight"  # name of the parameter
    _instead: ClassVar[str] = ""  # another way to train it on several ranks, for the warning
    sharded_by_fsdp = False
    _gradient_is_known = False
    _outgrown: tuple[weakref.ref[DistributedDataParallel], ...] = ()  # wrappers that know fewer rows

    def __setattr__(self, name: str, value: Any) -> None:
        # fully_shard swaps the parameter in and out by name: a DTensor between steps, a plain one within.
        if name == self._centres and is_sharded(value):
            self.sharded_by_fsdp = True
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is another head, in no wrapper so far.
        return {**self.__dict__, "_outgrown": (), "_gradient_is_known": False}

    def _note_growth(self) -> None:
        """Remember the wrappers that were made before the parameter got more rows."""
        if world_size() > 1:
            holders = _ddp_instances(getattr(self, self._centres))
            self._outgrown = (*self._outgrown, *map(weakref.ref, holders))

    @torch.compiler.assume_constant_result  # looked at once, while a graph is traced
    def _check_averaged(self) -> None:
        """Warn if this is one of several ranks, in training, and nobody is there to average the gradient that comes.

        Raises:
            RuntimeError: the DistributedDataParallel around it was made for fewer rows and would leave them out.
        """
        if self._outgrown:
            self._refuse_outgrown()
        if self._gradient_is_known or world_size() == 1 or not (self.training and torch.is_grad_enabled()):
            return
        parameter = getattr(self, self._centres)
        if not parameter.requires_grad:
            return
        self._gradient_is_known = True
        if self.sharded_by_fsdp or running_ddp(parameter) is not None or _handled_elsewhere(parameter):
            return
        warnings.warn(
            f"{type(self).__name__}: torch.distributed has {world_size()} ranks, expected a wrapper that averages the "
            f"gradient of {self._centres}, got none: every rank trains centres of its own. Put the head into "
            f"DistributedDataParallel or fully_shard, with the backbone or by itself{self._instead}. Ignore this "
            "warning if you average the gradient yourself",
            stacklevel=3,
        )

    def _refuse_outgrown(self) -> None:
        wrapper = running_ddp(getattr(self, self._centres))
        if wrapper is not None and any(old() is wrapper for old in self._outgrown):
            raise RuntimeError(
                f"{type(self).__name__} has more classes now than when DistributedDataParallel was made, which "
                "averages parameters as large as they were then: wrap the model again after add_basket"
            )


def _handled_elsewhere(parameter: Tensor) -> bool:
    """Return whether hooks wait for the gradient of `parameter`, or a wrapper whose forward does not run now."""
    if not parameter.is_leaf:  # a view into the flat parameter of FullyShardedDataParallel
        return True
    if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
        return True  # as DeepSpeed and others do
    # `ddp.module.head(ddp(x), y)` is averaged as well. Looked for once per head, and only before a warning.
    return bool(_ddp_instances(parameter))


def _ddp_instances(parameter: Tensor) -> list[DistributedDataParallel]:
    """Return every DistributedDataParallel that averages the gradient of `parameter`; torch keeps no list of them."""
    found = (each for each in gc.get_objects() if issubclass(type(each), DistributedDataParallel))
    return [wrapper for wrapper in found if _averages(wrapper, parameter)]
