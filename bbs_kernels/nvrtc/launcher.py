"""Machine code and parameter bytes onto torch's current stream, through CuPy."""

from __future__ import annotations

from functools import cache
from typing import Any

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


def launch(
    source: str, kernels: dict[str, str], plan: dict[str, Any], parameters: bytes, device: int
) -> None:
    """Launch `kernels` (short name to C++ name) in order, each with the shape that `plan` has under its short name."""
    import cupy

    argument = np.frombuffer(parameters, dtype=np.dtype((np.void, len(parameters))))  # one element: by value
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream, device)
    names = tuple(kernels.values())
    with cupy.cuda.Device(device), stream:
        for short, name in kernels.items():
            shape = plan[short]
            if 0 in shape["grid"]:
                continue
            function = kernel(source, names, name, device)
            if shape["shared"] > 48 * 1024:  # more than a kernel gets unasked
                function.max_dynamic_shared_size_bytes = shape["shared"]
            function(shape["grid"], (shape["block"],), (argument,), shared_mem=shape["shared"])
