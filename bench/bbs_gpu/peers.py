"""Other implementations of the same loss in this process, by the providers and the rules of `bbs bench`."""

from __future__ import annotations

from typing import Any

from bbs_bench.cases import find_case
from bbs_bench.measure import measure
from bbs_bench.providers import CUT, EAGER, FORMULA, LIGER, LINEAR, LOOP, OURS, TORCH_COMPILE
from bbs_bench.settings import CpuSetting, CudaSetting, Setting

from .device import Device
from .sheet import Sheet

NAMES = (OURS, EAGER, FORMULA, LOOP, LINEAR, CUT, LIGER)
TIMES = (
    "forward",
    "median",
    "lower_quartile",
    "upper_quartile",
    "ratio",
    "forward_gflops",
    "peak_share",
    "extra_mib",
)


def run(sheet: Sheet, device: Device) -> None:
    sizes = device.sizes
    for number, (name, dtype) in enumerate(sizes.peers):
        # Compiled once, for it takes long; not in a rehearsal.
        providers = (*NAMES, TORCH_COMPILE) if device.is_gpu and number == 0 else NAMES
        with sheet.part(f"{name}, {dtype}"):
            sheet.put(f"{name}, {dtype}", _measured(device, name, dtype, providers))
            device.release()


def _measured(device: Device, name: str, dtype: str, providers: tuple[str, ...]) -> dict[str, Any]:
    """The rows of the providers, and who was left out and why."""
    sizes = device.sizes
    setting: Setting = CudaSetting(dtype) if device.is_gpu else CpuSetting("default", 2)
    case = find_case(sizes.peer_suite, name)
    timings, left_out = measure(case, setting, rounds=sizes.peer_rounds, providers=providers)
    rows = [timing.row() for timing in timings]
    if not device.is_gpu:
        rows = [row | {key: None for key in TIMES if key in row} for row in rows]
    return {"timings": rows, "left_out": [[item.provider, item.reason] for item in left_out]}
