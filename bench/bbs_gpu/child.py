"""One process of a report: its items, each a module of this package with a `run(sheet, device)`.

python -m bbs_gpu.child PROCESS SHEET DEVICE
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from .device import Device
from .items import PROCESSES
from .sheet import Sheet


def main(name: str, sheet_path: str, device_name: str) -> None:
    process = next(process for process in PROCESSES if process.name == name)
    sheet, device = Sheet(Path(sheet_path)), Device(device_name)
    for item in process.items:
        with sheet.item(item.key):
            import_module(f"{__package__}.{item.key}").run(sheet, device)
        device.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
