"""`bbs demo` by several ranks: without batch statistics the training of one process, and one voice."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from support.torchrun import torchrun

pytestmark = pytest.mark.dist
SHORT = (
    "import sys; from basket_softmax.demo import run_demo; run_demo(quick=True, output=sys.argv[1], steps=3)"
)


@pytest.mark.parametrize(
    ("world", "rule"),
    [
        (2, "bbs"),
        pytest.param(3, "bbs-ema", marks=pytest.mark.slow),
        pytest.param(2, "own", marks=pytest.mark.slow),
        pytest.param(4, "all", marks=pytest.mark.slow),
    ],
)
def test_twenty_steps(workers, world: int, rule: str) -> None:
    """The same batches in the same order: every loss within 1e-4 of one process, on every rank."""
    assert max(workers.run(world, "demo_steps.twenty_steps", rule, "group")) <= 1e-4


@pytest.mark.slow
def test_batch_norm_sees_the_rows_of_its_rank(workers) -> None:
    """A guard on the test above, and what docs/parallel.md says: close, not equal."""
    off = workers.run(2, "demo_steps.twenty_steps", "bbs", "batch")
    assert off[0] == off[1]
    assert 1e-3 < off[0] < 0.2


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    """Rank 0 alone prints the table and writes the files."""
    script = tmp_path / "short.py"
    script.write_text(SHORT)
    said = torchrun(
        2, script, tmp_path / "out", environment={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    assert said.count("Basket-based Softmax") == said.count("written to") == 1
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["rule"] for row in rows] == ["all", "own", "bbs", "oracle"]
    assert all(0.0 < row["rank1"] <= 1.0 for row in rows)
    assert (tmp_path / "out" / "results.png").stat().st_size > 10_000
