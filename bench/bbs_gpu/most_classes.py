"""Ten million classes: fp32 centres and their gradient, if the memory is there."""

from __future__ import annotations

from .device import Device
from .plans import plan_of
from .sheet import Sheet
from .sizes import Case
from .timing import time_step

ROOM = 4 << 30  # bytes beside the centres and their gradient


def run(sheet: Sheet, device: Device) -> None:
    for case in device.sizes.most_classes:
        device.release()
        free, needed = device.free_bytes(), needed_bytes(case)
        if free is not None and free < needed:
            sheet.skip(f"{needed / 2**30:.0f} GiB are needed, {free / 2**30:.0f} GiB are free")
            return
        sheet.put(case.name, {**time_step(case, device, 2), "plan": plan_of(case, device)})


def needed_bytes(case: Case) -> int:
    return 2 * 4 * case.classes * case.width + ROOM
