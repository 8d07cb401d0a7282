"""Peak memory of a step beyond what stood before it and beyond the gradients that it returns.

On the CPU it is the process's resident set, so the step needs a process of its own; on a GPU it is what torch's
allocator has handed out, which can be asked at any time: the CUDA context and cached blocks do not count.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .providers import Step


def extra_mib(step: Step, device: str) -> float:
    """MiB, of the peak over two steps."""
    owed = 0
    before = _reset_peak(device)
    for _ in range(2):
        owed = sum(gradient.nbytes for gradient in step.backward(step.forward()))
    return (_peak(device) - before - owed) / 2**20


def _reset_peak(device: str) -> int:
    """Make what is held now the peak so far; returns it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    return before


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
