"""The launches that a run on a device notes, here over the emulated driver: each as it arrives there."""

from __future__ import annotations

import ctypes

import cases
import pytest
from executor import ARCH, KERNELS, Forward
from test_forward import RULES, agree

from support.emulated_gpu import EmulatedGpu
from support.emulated_gpu.real import Recorder

pytestmark = pytest.mark.ptx

KEPT: list[Recorder] = []  # the op library knows a table for ever


def test_launches_are_noted_and_handed_on() -> None:
    gpu = EmulatedGpu.fresh(ARCH)  # a driver belongs to one table
    names = gpu.library.bbs_test_driver_functions().decode().split()
    recorder = Recorder(names, lambda name, kind: getattr(gpu._table, name))
    KEPT.append(recorder)
    call = Forward(cases.planted("fp32", 9, 16, [20, 13], **RULES["topk"]), "fp32")
    use = gpu.library.bbs_test_use

    def with_recorder(driver: int, *others: int) -> None:
        use(ctypes.addressof(recorder.table) if driver else driver, *others)

    gpu.library.bbs_test_use = with_recorder
    try:
        call.gpu = gpu
        agree(call.p, call.run())
    finally:
        gpu.library.bbs_test_use = use
    assert [KERNELS[launch.symbol]["kernel"] for launch in recorder.launches] == [
        "prepare_rows", "order_rows", "cos_lse_sweep", "merge_splits",
    ]  # fmt: skip
    noted = [launch[:4] for launch in recorder.launches]
    assert noted == [launch[:4] for launch in call.launches]
