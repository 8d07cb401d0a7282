"""Time of a step and of its kernels: batches and precisions, resident and streaming rows, sizes of the workspace."""

from __future__ import annotations

from typing import Any

from .device import Device
from .plans import plan_of
from .sheet import Sheet
from .sizes import MIB, Case
from .timing import time_step


def run(sheet: Sheet, device: Device) -> None:
    sizes = device.sizes
    for case in sizes.timed:
        _put(sheet, device, case.name, case)
    for case in sizes.widths:
        _put(sheet, device, width_name(case), case)
    for case, size in sizes.workspaces:
        _put(sheet, device, workspace_name(case, size), case, workspace_bytes=size)


def width_name(case: Case) -> str:
    return f"width: {case.name}"


def workspace_name(case: Case, size: int) -> str:
    return f"workspace {size // MIB} MiB: {case.name}"


def _put(sheet: Sheet, device: Device, name: str, case: Case, **options: Any) -> None:
    with sheet.part(name):
        timed = time_step(case, device, device.sizes.repeats, **options)
        if not timed["kernels"]:
            sheet.fail(f"{name}: the profiler saw no kernel")
        sheet.put(name, {**timed, "plan": plan_of(case, device)})
        device.release()
