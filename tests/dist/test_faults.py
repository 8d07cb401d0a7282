"""A rank that dies or freezes in mid-step: an error on the others, in time; torchrun goes on from the last save."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dist.stops_main import TIMEOUT
from support.torchrun import torchrun

pytestmark = [pytest.mark.dist, pytest.mark.slow]
HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)]),
    "OMP_NUM_THREADS": "1",
    # Without it all lives of a torchrun share one store, in which a restarted rank may find the address of a dead one.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


@pytest.mark.parametrize(
    ("how", "moment"),
    [("kill", "before"), ("kill", "backward"), ("freeze", "between"), ("freeze", "backward")],
)
def test_the_others_fail_in_time(tmp_path: Path, how: str, moment: str) -> None:
    world, leaver = 3, 1
    command = [sys.executable, str(HERE / "stops_main.py"), str(tmp_path / "store")]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(leaver), how, moment],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        for rank in (0, 2):
            said, _ = ranks[rank].communicate(timeout=60 + TIMEOUT)
            assert ranks[rank].returncode == 3, said
            found = re.search(r"failed after ([\d.]+) s: (.*)", said)
            assert found, said
            assert float(found[1]) < TIMEOUT + 4, said
            assert re.search(rf"rank {rank} of {world}.* another rank", found[2]), said
    finally:
        for process in ranks:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert "leaves" in ranks[leaver].stdout.read()


def resumed(folder: Path, ranks: int, *arguments: object) -> str:
    script = HERE / "resume_main.py"
    return torchrun(
        ranks, script, folder, *arguments, options=["--max-restarts", "1"], environment=ENVIRONMENT
    )


@pytest.mark.parametrize("step", [3, 4])
def test_torchrun_resumes_bit_for_bit(tmp_path: Path, step: int) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    assert "starts at step 2" not in resumed(plain, 2, 6)
    said = resumed(killed, 2, 6, 1, step)
    assert said.count("starts at step 0") == 2, said
    assert said.count(f"starts at step {step - step % 2}") == 2, said
    ends = [torch.load(folder / "end.pt", weights_only=True) for folder in (plain, killed)]
    for key in ("weight", "ema", "momentum"):
        assert torch.equal(ends[0][key], ends[1][key]), key
    for key, value in ends[0]["backbone"].items():
        assert torch.equal(value, ends[1]["backbone"][key]), key


def test_another_number_of_ranks_goes_on(tmp_path: Path) -> None:
    """Two ranks, then three: the batches differ, so only the start is compared, and that training works."""
    resumed(tmp_path, 2, 4)
    said = resumed(tmp_path, 3, 6)
    assert said.count("starts at step 4") == 3, said
    assert torch.load(tmp_path / "end.pt", weights_only=True)["weight"].isfinite().all()
