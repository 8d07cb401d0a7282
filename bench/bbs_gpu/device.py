"""The device that a report is about: its sizes, its clock, and what a launch plan needs to know of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from .sizes import BY_DEVICE, Sizes

WARM_UP = 2


@dataclass(frozen=True)
class Device:
    """`cuda`, or `cpu` for a rehearsal, which times nothing: every duration is None there."""

    name: str

    @property
    def is_gpu(self) -> bool:
        return self.name == "cuda"

    @property
    def sizes(self) -> Sizes:
        return BY_DEVICE[self.name]

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def release(self) -> None:
        """Give the memory that torch keeps back, so that a large case finds room."""
        if self.is_gpu:
            torch.cuda.empty_cache()

    def free_bytes(self) -> int | None:
        return torch.cuda.mem_get_info()[0] if self.is_gpu else None

    def machine(self) -> tuple[str, int]:
        """Architecture and multiprocessors, as a launch plan takes them; a rehearsal plans for an H100."""
        if not self.is_gpu:
            return "sm_90", 132
        properties = torch.cuda.get_device_properties(0)
        return f"sm_{properties.major}{properties.minor}", properties.multi_processor_count

    def seconds(self, work: Callable[[], Any], repeats: int) -> float | None:
        """Median duration of `work` by the device's events, after a warm-up."""
        return self.parts([work], repeats)[0]

    def parts(self, work: list[Callable[[], Any]], repeats: int) -> list[float | None]:
        """Median durations of what runs one after another; each result is passed over, so keep it yourself."""
        found: list[list[float]] = []
        for _ in range(WARM_UP + repeats):
            if not self.is_gpu:
                for part in work:
                    part()
                continue
            events = [torch.cuda.Event(enable_timing=True) for _ in range(len(work) + 1)]
            events[0].record()
            for part, event in zip(work, events[1:], strict=True):
                part()
                event.record()
            torch.cuda.synchronize()
            found.append([1e-3 * a.elapsed_time(b) for a, b in pairwise(events)])
        if not found:
            return [None] * len(work)
        return [statistics.median(column) for column in zip(*found[WARM_UP:], strict=True)]
