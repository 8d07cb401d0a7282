"""Machine code and parameter bytes onto torch's current stream, through CuPy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from .compiler import compile_kernels


@cache
def machine_of(device: int) -> tuple[int, int, int]:
    """What a plan asks of a device: multiprocessors, shared bytes of a block and of a multiprocessor."""
    import cupy

    attributes = cupy.cuda.Device(device).attributes
    return (
        attributes["MultiProcessorCount"],
        attributes["MaxSharedMemoryPerBlockOptin"],
        attributes["MaxSharedMemoryPerMultiprocessor"],
    )


@cache
def kernel(source: str, names: tuple[str, ...], name: str, device: int) -> Any:
    """The kernel with the C++ name `name` of the program `source`, loaded on a device."""
    import cupy

    major, minor = torch.cuda.get_device_capability(device)
    built = compile_kernels(source, names, 10 * major + minor)
    with cupy.cuda.Device(device):
        return cupy.RawModule(path=str(built.path)).get_function(built.symbols[name])


class Launch(NamedTuple):
    """One launch: the kernel's short name, blocks, threads of a block, bytes of shared memory, the argument's bytes."""

    kernel: str
    grid: tuple[int, int, int]
    block: int
    shared: int
    parameters: bytes


def launch(source: str, kernels: dict[str, str], launches: Iterable[Launch], device: int) -> None:
    """Launch in order on torch's current stream of a device. `kernels`: short name to C++ name in `source`."""
    import cupy

    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream, device)
    names = tuple(kernels.values())
    with cupy.cuda.Device(device), stream:
        for one in launches:
            function = kernel(source, names, kernels[one.kernel], device)
            if one.shared > 48 * 1024:  # more than a kernel gets unasked
                function.max_dynamic_shared_size_bytes = one.shared
            of_bytes = np.dtype((np.void, len(one.parameters)))
            argument = np.frombuffer(one.parameters, of_bytes)  # one element: passed by value
            function(one.grid, (one.block,), (argument,), shared_mem=one.shared)
