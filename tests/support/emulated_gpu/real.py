"""The GPU of this machine with the interface of the emulated one: the same library, its ops on tensors of CUDA."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from bbs_kernels.ops.images import provider

from .driver import (
    MAJOR,
    MINOR,
    MULTIPROCESSORS,
    SHARED_PER_BLOCK,
    SHARED_PER_MULTIPROCESSOR,
    SIGNATURES,
    Launch,
)
from .driver import I as Status
from .gpu import NAMESPACE, Machine, library_of_ops, namespace


class Recorder:
    """A table of driver functions that notes every launch and hands it on to `function`'s, by name."""

    def __init__(self, names: list[str], function: Callable[[str, Any], Any]) -> None:
        kinds = {name: ctypes.CFUNCTYPE(Status, *SIGNATURES[name]) for name in names}
        self.own = {name: function(name, kind) for name, kind in kinds.items()}
        self.symbols: dict[int, str] = {}
        self.launches: list[Launch] = []
        noted = {"cuLibraryGetKernel": self._get_kernel, "cuLaunchKernelEx": self._launch}
        members = {name: kinds[name](noted[name]) if name in noted else own for name, own in self.own.items()}
        self.table = type("Driver", (ctypes.Structure,), {"_fields_": list(kinds.items())})(*members.values())

    def _get_kernel(self, kernel: Any, library: int, symbol: bytes) -> int:
        status = self.own["cuLibraryGetKernel"](kernel, library, symbol)
        if status == 0:
            self.symbols[kernel[0]] = symbol.decode()
        return status

    def _launch(self, config: Any, kernel: int, parameters: Any, extra: Any) -> int:
        shape = config[0]
        grid = shape.gx, shape.gy, shape.gz
        symbol = self.symbols[kernel]
        self.launches.append(Launch(symbol, grid, shape.bx, shape.shared, 0, shape.stream or 0, None))
        return self.own["cuLaunchKernelEx"](config, kernel, parameters, extra)


class RealGpu:
    """Device 0. A schedule is the device's own, and what the machine checks is not checked. One for a process."""

    where = "cuda"

    def __init__(self) -> None:
        self.library, self.ops = library_of_ops(), namespace()
        self.library.bbs_test_register(NAMESPACE.encode(), b"CUDA")
        cuda = ctypes.CDLL("libcuda.so.1")
        names = self.library.bbs_test_driver_functions().decode().split()
        self._recorder = Recorder(names, lambda name, kind: kind((name, cuda)))
        assert self._recorder.own["cuInit"](0) == 0, "the driver cannot be started"
        self._told = Machine(
            *map(self._attribute, (MULTIPROCESSORS, SHARED_PER_BLOCK, SHARED_PER_MULTIPROCESSOR)), 0
        )
        self._multiprocessors = self._told.multiprocessors
        self.arch = 10 * self._attribute(MAJOR) + self._attribute(MINOR)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        status = self._recorder.own["cuDeviceGetAttribute"](ctypes.byref(value), number, 0)
        assert status == 0, f"the device does not tell its attribute {number}"
        return value.value

    @property
    def launches(self) -> list[Launch]:
        return self._recorder.launches

    @contextlib.contextmanager
    def run(
        self, *, seed: int = 0, checks: dict | None = None, streaming: bool = False,
        multiprocessors: int | None = None, mutated: dict[str, str] | None = None,
    ) -> Iterator[Any]:  # fmt: skip
        """Yields the ops, as `EmulatedGpu.run` does."""
        assert not mutated, "only the PTX machine runs changed kernels"
        self._told.multiprocessors = multiprocessors or self._multiprocessors
        self._told.streaming = int(streaming)
        self._recorder.launches = []
        self.library.bbs_test_use(
            ctypes.addressof(self._recorder.table), None, ctypes.cast(provider, ctypes.c_void_p)
        )
        self.library.bbs_test_use_machine(ctypes.addressof(self._told))
        try:
            yield self.ops
        finally:
            self.library.bbs_test_use(None, None, None)
            self.library.bbs_test_use_machine(None)
