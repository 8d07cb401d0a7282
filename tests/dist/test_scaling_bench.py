"""bench/parallel_scaling.py: its peer computes what is published, and a short run writes its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = [pytest.mark.dist, pytest.mark.skipif(not BENCH.is_dir(), reason="needs the source tree")]


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_peer(workers, world: int, sample_rate: float) -> None:
    workers.run(world, "scaling_peer.against_the_definition", sample_rate)


def test_peer_keeps_all_positives(workers) -> None:
    workers.run(1, "scaling_peer.more_positives_than_the_rate")


@pytest.mark.slow
def test_a_short_run(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCH / "parallel_scaling.py"),
        "--quick",
        "--rounds",
        "2",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("| bbs-kernels |") == 1
    rows = json.loads((tmp_path / "results.json").read_text())["timings"]
    losses = {
        row["loss"] for row in rows if row["provider"] == "bbs-kernels" and row["layout"] == "two ranks"
    }
    peers = {
        row["loss"] for row in rows if row["provider"].endswith("algorithm") and row["layout"] == "two ranks"
    }
    assert losses.pop() == pytest.approx(peers.pop(), rel=1e-5)
    assert {row["received_bytes"] == 0 for row in rows if row["ranks"] == 1} == {True}
    assert (tmp_path / "results.png").stat().st_size > 10_000
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + len(rows)
