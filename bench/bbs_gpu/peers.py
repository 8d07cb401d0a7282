"""Other implementations of the same loss in this process, by the providers and the rules of `bbs bench`."""

from __future__ import annotations

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
    "peak_gflops",
    "extra_mib",
)


def run(sheet: Sheet, device: Device) -> None:
    sizes = device.sizes
    for number, (name, dtype) in enumerate(sizes.peers):
        setting: Setting = CudaSetting(dtype) if device.is_gpu else CpuSetting("default", 2)
        # Compiled once, for it takes long; not in a rehearsal.
        providers = (*NAMES, TORCH_COMPILE) if device.is_gpu and number == 0 else NAMES
        timings, left_out = measure(
            find_case(sizes.peer_suite, name), setting, rounds=sizes.peer_rounds, providers=providers
        )
        rows = [timing.row() | {"provider": timing.provider} for timing in timings]
        if not device.is_gpu:
            rows = [{**row, **{key: None for key in TIMES if key in row}} for row in rows]
        sheet.put(
            f"{name}, {dtype}",
            {"timings": rows, "left_out": [[item.provider, item.reason] for item in left_out]},
        )
        device.release()
