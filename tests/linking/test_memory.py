"""A matching keeps a few numbers per class and tiles of cosines, never a table of classes by classes."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLASSES, DEPTH, BASKETS = 40_000, 64, 8
MEASURE = f"""
import resource
import torch
import basket_softmax as bs
loss = bs.BasketSoftmaxLoss([{CLASSES // BASKETS}] * {BASKETS}, {DEPTH})
linker = bs.IdentityLinker(loss, share=0.8)
draw = torch.Generator().manual_seed(0)
people = torch.randn({CLASSES // 4}, {DEPTH}, generator=draw)
for part in linker.prototypes.split({CLASSES // BASKETS}):
    part.copy_(people[torch.randperm(len(people), generator=draw)[:len(part)]])
    part.add_(torch.randn(part.shape, generator=draw), alpha=0.3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
linker.match()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(int((linker.shared >= 0).sum()), after - before)
"""


@pytest.mark.slow
def test_a_matching_is_small():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    linked, kilobytes = map(int, done.stdout.split())
    assert linked > 0.9 * CLASSES
    table = CLASSES * CLASSES * 2 / 1024  # in bfloat16: 3 GB
    assert kilobytes < 150_000 + 10 * CLASSES * DEPTH * 4 / 1024 < table / 8
