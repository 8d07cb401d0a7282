"""Mapped negatives hold a block of cosines, never B x C: peak memory of a step at 200,000 classes."""

from __future__ import annotations

import sys

import pytest

from cpu import child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

# The peak minus what was resident before the step, and minus dW.
CHILD = """
import re
import torch
import basket_softmax as bs

def status(field):
    with open("/proc/self/status") as f:
        return int(re.search(field + r":\\s+(\\d+) kB", f.read())[1]) * 1024

torch.set_num_threads(1)
rows, depth = 256, 16
x = torch.randn(rows, depth, requires_grad=True)
labels = torch.randint(200_000, (rows,))

def step(head, labels):
    head(x, labels).backward()

step(bs.BasketSoftmaxLoss([50, 50], depth, bs.CurricularFace(), mining=MINING), labels % 100)
head = bs.BasketSoftmaxLoss([90_000, 110_000], depth, bs.CurricularFace(), mining=MINING)
x.grad = None
before = status("VmRSS")
step(head, labels)
print(status("VmHWM") - before - head.weight.numel() * 4)
"""


@pytest.mark.parametrize("mining", ["bs.TopK(64, 1)", "bs.Own()"])
def test_peak_of_a_step(mining: str) -> None:
    """64 MiB, where B * C floats would be 195 MiB and autograd would hold several."""
    got = int(child.run(CHILD.replace("MINING", mining)))
    assert got < 64 << 20, f"{got / 2**20:.1f} MiB beyond W and dW, allowed are 64"
