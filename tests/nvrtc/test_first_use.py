"""What the first call gets for all later ones, which graph capture forbids, and which devices `check` waits for.

The CUDA calls are replaced: there is no device here. tests/cuda/test_device.py has the same with one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

import bbs_kernels
from bbs_kernels.checks import NO_LABEL
from bbs_kernels.nvrtc import ops


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "used_devices", set())
    monkeypatch.setattr(ops, "_bad_label", [])
    monkeypatch.setattr(ops, "_tables", {})


def test_check_waits_for_every_device_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for the current device alone, and missed a label of cuda:1."""
    waited = []
    found = torch.tensor([NO_LABEL, 0])

    def synchronize(device: int) -> None:
        waited.append(device)
        if device == 1:
            found.copy_(torch.tensor([70, 60]))

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(ops, "used_devices", {0, 1})
    monkeypatch.setattr(ops, "_bad_label", [found])
    with pytest.raises(RuntimeError, match="70 is out of range: allowed are 0 to 59"):
        bbs_kernels.check()
    assert waited == [0, 1]
    monkeypatch.setattr(ops, "used_devices", {0})
    bbs_kernels.check()  # told once


def test_check_starts_no_device() -> None:
    bbs_kernels.check()
    assert not torch.cuda.is_initialized()


def test_the_label_is_not_pinned_during_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    capturing = {2}
    monkeypatch.setattr(ops, "is_capturing", lambda device: device in capturing)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: t)
    ops.raise_bad_label(2)
    assert not ops._bad_label
    with pytest.raises(RuntimeError, match=r"graph is being captured, .*run one step before the capture"):
        ops.tables((0, 9), (0, 1), 2)
    assert not ops._tables  # the failure is not kept
    capturing.clear()
    ops.raise_bad_label(2)
    assert ops.bad_label().tolist() == [NO_LABEL, 0]
    ops.bad_label()[0] = 7
    with pytest.raises(RuntimeError, match="7 is out of range"):
        ops.raise_bad_label(2)


def test_capture_is_asked_of_the_device_of_x(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [0]

    @contextlib.contextmanager
    def device(index: int) -> Iterator[None]:
        current.append(index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: current[-1] == 1)
    assert ops.is_capturing(1)
    assert not ops.is_capturing(0)
