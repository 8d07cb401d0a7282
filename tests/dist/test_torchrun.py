"""The example of docs/parallel.md under torchrun, with small baskets: both ranks print the same losses, which fall."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.torchrun import losses_of_ranks, torchrun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parallel.md"
pytestmark = [
    pytest.mark.dist,
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.is_file(), reason="needs the source tree"),
]

BEFORE = """
import os
import torch
torch.set_num_threads(1)

class Backbone(torch.nn.Linear):
    def __init__(self):
        super().__init__(20, 512)

class Batches:
    def __iter__(self):
        rank = int(os.environ["RANK"])
        g = torch.Generator().manual_seed(rank)
        images, labels = torch.randn(8 - rank, 20, generator=g), torch.randint(90, (8 - rank,), generator=g)
        for _ in range(6):
            yield images, labels

loader = Batches()
"""
AFTER = """
    with open(f"losses-{os.environ['RANK']}.txt", "a") as file:  # lines of several ranks on one pipe can be torn
        print(float(value.detach()), file=file)
dist.destroy_process_group()
"""


def test_example(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.+?)```", PAGE.read_text(), re.S).group(1)
    assert '{"webface": 10572, "glint": 360232}' in example
    script = tmp_path / "train.py"
    script.write_text(BEFORE + example.replace("10572", "57").replace("360232", "33") + AFTER.lstrip("\n"))
    torchrun(2, script, folder=tmp_path)
    losses = losses_of_ranks(tmp_path)
    assert len(losses) == 6
    assert losses[-1] < losses[0]
