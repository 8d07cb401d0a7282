"""Large cases beside fp64: wide rows, several blocks of rows, one run and many, resident and streaming rows."""

from __future__ import annotations

from .agreement import compare_all
from .device import Device
from .sheet import Sheet


def run(sheet: Sheet, device: Device) -> None:
    compare_all(sheet, device, device.sizes.large)
