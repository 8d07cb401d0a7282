"""One step of the loss per dtype, forward and backward, beside fp64: whether anything else is worth running."""

from __future__ import annotations

from .agreement import compare_all
from .device import Device
from .sheet import Sheet


def run(sheet: Sheet, device: Device) -> None:
    compare_all(sheet, device, device.sizes.steps)
