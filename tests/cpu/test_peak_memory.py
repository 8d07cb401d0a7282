"""No B x C buffer: peak memory of a forward and a backward at C = 200,000 stays far below B*C numbers."""

from __future__ import annotations

import sys

import pytest

from . import child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

# What a process prints: its peak minus what was resident before the step, so an earlier peak can only add to it.
CHILD = """
import re
import torch
from bbs_kernels import functional
from bbs_kernels.rules import Absolute, All, Below, TopK

def status(field):  # not ru_maxrss, which starts at the parent's
    with open("/proc/self/status") as f:
        return int(re.search(field + r":\\s+(\\d+) kB", f.read())[1]) * 1024

torch.set_num_threads(2)
rows, depth, classes = 256, 64, 200_000
x = torch.randn(rows, depth, requires_grad=True)
w = torch.randn(classes, depth, requires_grad=True)
offsets = torch.tensor([0, 90_000, 90_000, 150_000, classes])
labels = torch.randint(classes, (rows,))

def step(x, w, labels, offsets):
    lse, cos_t, _, _ = functional.cos_lse(x, w, labels, offsets, scale=64.0, mining=MINING, stash_bytes=STASH)
    (lse - 64.0 * cos_t).sum().backward()

# What is loaded once is loaded now.
step(x[:8], torch.randn(100, depth, requires_grad=True), labels[:8] % 100, torch.tensor([0, 50, 100]))
x.grad = None
before = status("VmRSS")
step(x, w, labels, offsets)
DENSE
print(status("VmHWM") - before - w.numel() * 4)
"""


def beyond(mining: str, stash: int, dense: str = "") -> int:
    """Bytes at the peak of a step beyond what there was before and dW."""
    return int(
        child.run(CHILD.replace("MINING", mining).replace("STASH", str(stash)).replace("DENSE", dense))
    )


@pytest.mark.parametrize("mining", ["TopK(64, 1)", "All()", "Below(Absolute(0.3))"])
@pytest.mark.parametrize("stash", [0, 32 << 20])
def test_peak_of_a_step(mining: str, stash: int) -> None:
    """The stash that was asked for and 24 MiB, where B*C floats would be 195 MiB."""
    bound = stash + (24 << 20)
    got = beyond(mining, stash)
    assert got < bound, f"{got / 2**20:.1f} MiB beyond W and dW, allowed are {bound / 2**20:.1f}"


def test_the_measure_sees_a_dense_matrix() -> None:
    assert beyond("All()", 0, "dense = x.detach() @ w.detach().t()") > 150 << 20
