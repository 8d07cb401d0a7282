"""The time of a step and the machine's own speed beside it, on the CPU and on a GPU.

Both clocks answer the same two questions: how long did forward and the whole step take, and how many GFLOP/s does
this machine reach now on the arithmetic that a step is made of.
"""

from __future__ import annotations

import time

import torch

from bbs_kernels import _core  # type: ignore[attr-defined]  # compiled

from .providers import Step
from .settings import CpuSetting, Setting

PEAK_SECONDS = 0.02
# Of the square matrices that cuBLAS multiplies: large enough that more no longer helps, 2 to 3 ms on a large GPU.
PEAK_SIZES = {torch.float32: 4096, torch.float16: 8192, torch.bfloat16: 8192}
PEAK_PRODUCTS = 4
SMALLEST_FLUSH = 64 << 20  # bytes


class CpuClock:
    def __init__(self, threads: int) -> None:
        self._threads = threads

    def run(self, step: Step) -> tuple[float, float, float]:
        """Seconds of forward, of both, and the loss."""
        began = time.perf_counter()
        loss = step.forward()
        middle = time.perf_counter()
        step.backward(loss)
        return middle - began, time.perf_counter() - began, float(loss.detach())

    def peak(self) -> float:
        """GFLOP/s of fused multiply-adds, as if every thread reached what one does."""
        return self._threads * _core.fma_peak(PEAK_SECONDS)


class CudaClock:
    """CUDA events around a step on the current stream, with the L2 cache emptied of its data before.

    The host's work is part of the time wherever the device waits for it, as in training.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        l2 = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self._flush = torch.empty(max(2 * l2, SMALLEST_FLUSH), dtype=torch.uint8, device="cuda")
        self._size = PEAK_SIZES[dtype]
        self._a, self._b, self._product = (
            torch.randn(self._size, self._size, device="cuda").to(dtype) for _ in range(3)
        )
        self.peak()  # cuBLAS loads its kernels

    def run(self, step: Step) -> tuple[float, float, float]:
        """Seconds of forward, of both, and the loss."""
        began, middle, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self._flush.zero_()
        began.record()
        loss = step.forward()
        middle.record()
        step.backward(loss)
        end.record()
        end.synchronize()
        return 1e-3 * began.elapsed_time(middle), 1e-3 * began.elapsed_time(end), float(loss.detach())

    def peak(self) -> float:
        """GFLOP/s of cuBLAS on square matrices of the embeddings' dtype; fp32 as torch.matmul is set to do it."""
        began, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(PEAK_PRODUCTS):
            torch.mm(self._a, self._b, out=self._product)
        end.record()
        end.synchronize()
        return 2e-9 * PEAK_PRODUCTS * self._size**3 / (1e-3 * began.elapsed_time(end))


Clock = CpuClock | CudaClock


def clock_for(setting: Setting) -> Clock:
    if isinstance(setting, CpuSetting):
        return CpuClock(setting.threads)
    return CudaClock(getattr(torch, setting.dtype))
