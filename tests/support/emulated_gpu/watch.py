"""Sees what op bodies allocate and call, through torch's dispatcher: nothing of it needs a seam in C++."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .memory import HostMemory

# What a body fills with kernels; what it fills itself, as its tables, comes from aten::empty.
UNWRITTEN = {"aten::new_empty", "aten::empty_strided", "aten::empty_like"}
FILLED_IN_PLACE = {"aten::zero_", "aten::copy_", "aten::fill_"}
# What waits for a device, or copies from it.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::item",
    "aten::is_nonzero",
}


def uses_of(t: torch.Tensor) -> int:
    """How many hold its storage: a view does, when its base is gone."""
    return torch._C._storage_Use_Count(t.untyped_storage()._cdata)


class Watch(TorchDispatchMode):
    """Registers the tensors of the ops in `namespaces`, and what their bodies allocate, as the machine's memory.

    `raise_found` is called after each op and raises what a callback had to swallow.
    """

    def __init__(self, memory: HostMemory, ops: set[str], raise_found: Callable[[], None]) -> None:
        super().__init__()
        self.memory, self.ops, self.raise_found = memory, ops, raise_found
        self.inside = False
        self.called: list[str] = []  # by the bodies
        self.alive: dict[int, tuple[torch.Tensor, int]] = {}  # what they allocated, and uses_of() it at first

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in self.ops:
            return self._op(func, args, kwargs)
        if name.endswith("::check_labels"):
            return self._report(func)
        out = func(*args, **kwargs)
        if self.inside:
            self.called.append(name)
            assert name not in WAITING, f"an op body called {name}, which waits for the device"
        if name in UNWRITTEN:
            if self.inside:
                self._allocated(out)
        elif name in FILLED_IN_PLACE:
            if args[0].numel() and self.memory.holds(args[0]):
                self.memory.written(args[0])
        elif isinstance(out, torch.Tensor) and self._is_new(out, args):
            self.memory.add_tensor(out, valid=True, name=name)
        return out

    def _op(self, func: Any, args: tuple, kwargs: dict) -> Any:
        for t in (*args, *kwargs.values()):
            if isinstance(t, torch.Tensor) and t.device.type == "cpu" and t.numel():
                self.memory.add_tensor(t, valid=True, name="an input")
        self.inside = True
        try:
            with self:
                out = func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)
            # Before drop_freed: nobody but Python holds an output by now, so that it would count as freed.
            outputs = (out,) if isinstance(out, torch.Tensor) else out
            left = [self.memory.unwritten(t) for t in outputs]
        finally:
            self.inside = False
            self.drop_freed()
            self.alive.clear()
            self.raise_found()
        assert not any(left), f"{func} left bytes of its outputs unwritten: {left}"
        return out

    def _report(self, func: Any) -> None:
        try:
            func()
        finally:
            self.raise_found()

    @staticmethod
    def _is_new(t: torch.Tensor, args: tuple) -> bool:
        """Return whether memory was allocated: `t` is no view of an argument, whatever lay there before."""
        if t.device.type != "cpu" or t.numel() == 0:
            return False
        address = t.untyped_storage().data_ptr()
        given = (a for a in args if isinstance(a, torch.Tensor) and a.device.type == "cpu")
        return all(a.untyped_storage().data_ptr() != address for a in given)

    def _allocated(self, t: torch.Tensor) -> None:
        if t.device.type == "cpu" and t.untyped_storage().nbytes():
            self.memory.add_tensor(t, valid=False, name="new_empty")
            self.alive[t.untyped_storage().data_ptr()] = t, uses_of(t)

    def drop_freed(self) -> None:
        """Take the memory of tensors away that nobody else holds: a launch must not use them any more."""
        for address, (t, at_first) in list(self.alive.items()):
            if t._use_count() <= 1 and uses_of(t) <= at_first:
                del self.alive[address]
                self.memory.forget(address, t.untyped_storage().nbytes())
