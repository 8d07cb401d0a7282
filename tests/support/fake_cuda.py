"""CUDA tensors without memory, without a GPU and beside any build of torch: what Python does with `device="cuda"` runs.

Two things keep torch's own FakeTensorMode from that. The autograd engine wants a thread for each GPU, and a CPU build
has no guard for the device at all; so C++ is told that a fake CUDA tensor lies on another device, while Python,
dispatch keys and the fake bodies of ops see CUDA. And the host reads the offsets of the baskets, which must be real:
`outside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
DEVICE_QUERY = torch.ops.prim.device.default
HOST_READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2")
TOLD = {"aot_eager": "cpu", "eager": "meta"}  # `told` of `fake_cuda` by the backend of torch.compile
Made = TypeVar("Made")


@contextmanager
def fake_cuda(told: str = "meta") -> Iterator[FakeTensorMode]:
    """A `FakeTensorMode` in which CUDA tensors have gradients.

    Args:
        told: the device that C++ takes a fake CUDA tensor to lie on. "meta" for eager code: a copy to the CPU is then
            one in C++ too. "cpu" under torch.compile: AOTAutograd wraps tensors by C++'s device, and for tensors on
            the meta device some ops have no autograd; but `x.cpu()` returns x.
    """
    device = torch.device(told)
    before = {kind: kind.__dict__["__torch_dispatch__"] for kind in (FakeTensor, FakeTensorMode)}

    def dispatch_of_tensor(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is DEVICE_QUERY and _is_fake_cuda(args[0]):
            return device
        return before[FakeTensor].__get__(None, cls)(func, types, args, kwargs)

    def dispatch_of_mode(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is DEVICE_QUERY and _is_fake_cuda(args[0]):
            return device
        # What C++ makes beside a fake CUDA tensor, on the device it was told, belongs on CUDA.
        made_by_cpp = told == "meta" or (func is torch.ops.aten._to_copy.default and _is_fake_cuda(args[0]))
        if made_by_cpp and kwargs and kwargs.get("device") == device:
            kwargs = {**kwargs, "device": CUDA}
        return before[FakeTensorMode](self, func, types, args, kwargs)

    FakeTensor.__torch_dispatch__ = classmethod(dispatch_of_tensor)  # the engine asks while no mode is active
    FakeTensorMode.__torch_dispatch__ = dispatch_of_mode  # torch.compile makes modes of its own
    kinds = ("cuda", "cpu", "meta")
    for kind in kinds:  # Tensor.is_cuda and its like ask C++
        setattr(FakeTensor, f"is_{kind}", property(lambda self, kind=kind: self.fake_device.type == kind))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        for kind in kinds:
            delattr(FakeTensor, f"is_{kind}")
        for kind, dispatch in before.items():
            kind.__torch_dispatch__ = dispatch


def _is_fake_cuda(value: Any) -> bool:
    return (
        isinstance(value, FakeTensor)
        and value.fake_device.type == "cuda"
        and not value.fake_mode.in_kernel_invocation  # it lies on the meta device then
    )


@cache
def whole() -> str:
    """Return the backend that goes furthest: in torch 2.10 AOTAutograd takes no fake tensors, and dynamo alone runs."""
    try:
        with fake_cuda(TOLD["aot_eager"]):
            torch.compile(lambda x: x + 1, fullgraph=True, backend="aot_eager")(torch.ones(2, device="cuda"))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        if "fake mode" not in str(error):
            raise
        return "eager"
    return "aot_eager"


def outside(make: Callable[[], Made]) -> Made:
    """Return what `make` makes of real tensors, also inside a fake mode."""
    with unset_fake_temporarily():
        return make()


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """`torch.autocast("cuda", dtype)`, which switches itself off where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
        torch.clear_autocast_cache()


class NoHostSync(TorchDispatchMode):
    """Fails on what makes the host wait for a device: reading a value, a size that depends on one, or a copy."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        on_device = any(t.device.type == "cuda" for t in given)
        if name in HOST_READS and on_device:
            raise AssertionError(f"{func} waits for the device")
        if name in ("index", "index_put", "index_put_") and on_device:
            mask = [t for t in tree_leaves(args[1]) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
            if mask:
                raise AssertionError(f"{func} with a mask waits for the device")
        out = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_", "copy") and isinstance(out, torch.Tensor):
            kinds = {t.device.type for t in (*given, out) if t.dim() or name == "_to_copy"}
            if kinds == {"cuda", "cpu"}:
                raise AssertionError(f"{func} copies between the host and a device")
        return out
