"""A step whose forward and backward are timed apart, and the kernels that it launches."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bbs_kernels.functional import DEFAULT_WORKSPACE_BYTES
from support.large_cases import KINDS, losses_of, make_problem, matmul_precision, rule_of

from .device import Device
from .sizes import Case

# Categories of a trace's events: what ran on a GPU, or in a rehearsal the ops of the CPU.
CATEGORIES = {"cuda": {"kernel", "gpu_memcpy", "gpu_memset"}, "cpu": {"cpu_op"}}


class TimedStep:
    """One step of a case: `forward`, then `backward`; gradients are dropped."""

    def __init__(self, case: Case, device: Device, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES) -> None:
        self.tf32 = KINDS[case.kind].tf32
        self._losses, self._leaves = losses_of(
            make_problem(case, device.name), rule_of(case), workspace_bytes
        )
        self.loss: Tensor | None = None

    def forward(self) -> None:
        self.loss = self._losses().sum()

    def backward(self) -> None:
        assert self.loss is not None
        torch.autograd.grad(self.loss, self._leaves)

    def both(self) -> None:
        self.forward()
        self.backward()


def time_step(
    case: Case, device: Device, repeats: int, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
) -> dict[str, Any]:
    """Seconds of forward and backward, the loss, and the kernels of one step by name."""
    step = TimedStep(case, device, workspace_bytes)
    with matmul_precision(step.tf32):
        forward, backward = device.parts([step.forward, step.backward], repeats)
        kernels = kernels_of(step.both, device)
    assert step.loss is not None
    loss = float(step.loss.detach())
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise RuntimeError(f"{case.name}: the loss is {loss}")
    return {"forward": forward, "backward": backward, "loss": loss, "kernels": kernels}


def kernels_of(work: Callable[[], None], device: Device) -> list[dict[str, Any]]:
    """Name, launches and seconds of what ran on the device during `work`, the longest first."""
    activity = ProfilerActivity.CUDA if device.is_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        work()
        device.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return summarise(events, device)


def summarise(events: list[dict[str, Any]], device: Device) -> list[dict[str, Any]]:
    """The events of a chrome trace by kernel; durations are microseconds there. None of the CPU's is kept."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("ph") != "X" or event.get("cat") not in CATEGORIES[device.name]:
            continue
        name = short_name(event["name"])
        entry = found.setdefault(name, {"name": name, "launches": 0, "seconds": 0.0})
        entry["launches"] += 1
        entry["seconds"] += 1e-6 * event["dur"]
    ordered = sorted(found.values(), key=lambda entry: -entry["seconds"])
    return ordered if device.is_gpu else [{**entry, "seconds": None} for entry in ordered]


def short_name(name: str) -> str:
    """`void bbs::cuda::coefficients<…>(…)` is `coefficients`; the name of another library keeps its last part."""
    while (plain := re.sub(r"<[^<>]*>", "", name)) != name:
        name = plain
    name = name.split("(")[0].removeprefix("void ").strip()
    return name.split("::")[-1] or name
