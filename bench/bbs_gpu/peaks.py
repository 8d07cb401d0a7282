"""The rates that floors are computed from: bytes and flops per second, measured; None on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .device import Device
from .sizes import PEAKS


def measure_peaks(device: Device) -> Iterator[tuple[str, float | None]]:
    """(`copy`, bytes/s), (`l2`, bytes/s), then flops/s of a square product by the names of `sizes.PEAKS`."""
    yield "copy", copy_rate(device)
    yield "l2", l2_rate(device)
    for name in PEAKS:
        yield name, matmul_rate(device, name)


def copy_rate(device: Device) -> float | None:
    """Bytes read and written by a copy between two large buffers."""
    source = torch.ones(device.sizes.copied_bytes, dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    return _rate(2 * source.numel(), device.seconds(lambda: target.copy_(source), 3 * device.sizes.repeats))


def l2_rate(device: Device) -> float | None:
    """Bytes read from a buffer that fits L2 by one launch that reads it many times; the better of two reductions."""
    sizes = device.sizes
    buffer = torch.ones(sizes.l2_bytes // 4, device=device.name)
    repeated = buffer.expand(sizes.l2_reads, -1)  # stride 0: the same bytes for every result
    rates = [
        _rate(sizes.l2_bytes * sizes.l2_reads, device.seconds(reduction, 3 * sizes.repeats))
        for reduction in (lambda: repeated.sum(1), lambda: repeated.amax(1))
    ]
    return max((rate for rate in rates if rate is not None), default=None)


def matmul_rate(device: Device, name: str) -> float | None:
    """Flops of a square product of random matrices, in bf16, as tf32 or in fp32."""
    size, dtype = device.sizes.matmul, torch.bfloat16 if name == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device.name).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    try:
        return _rate(2 * size**3, device.seconds(lambda: torch.mm(a, b, out=out), device.sizes.repeats))
    finally:
        torch.set_float32_matmul_precision(before)


def _rate(amount: int, seconds: float | None) -> float | None:
    return None if seconds is None else amount / seconds
