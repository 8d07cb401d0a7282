"""`bbs bench` on a GPU: its clock is the device's, and a whole quick run writes its rows."""

import json

import pytest
import torch

from bbs_bench.clock import CudaClock
from bbs_bench.memory import extra_mib
from bbs_bench.providers import OURS, Step


def test_the_clock_waits_for_the_device():
    cycles = 20_000_000  # some 10 ms; the host queues both halves in microseconds

    def forward():
        torch.cuda._sleep(cycles)
        return torch.ones((), device="cuda")

    def backward(loss):
        torch.cuda._sleep(3 * cycles)
        return ()

    forward_seconds, total, loss = CudaClock(torch.float32).run(Step(forward, backward))
    assert total / forward_seconds == pytest.approx(4.0, rel=0.3)
    assert forward_seconds > 1e-3
    assert loss == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_peak_is_a_gpus(dtype):
    assert CudaClock(dtype).peak() > 1000.0  # GFLOP/s


def test_memory_is_what_a_step_holds_beside_its_gradients():
    def backward(loss):
        scratch = torch.ones(64 << 18, device="cuda")
        return (torch.ones(8 << 18, device="cuda") * scratch[0],)

    extra = extra_mib(Step(lambda: torch.zeros((), device="cuda"), backward), "cuda")
    assert 64 <= extra < 96


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_quick_run_writes_its_rows(dtype, tmp_path):
    testing = pytest.importorskip("click.testing")  # the package may be here without its dependencies
    from basket_softmax.cli import main

    arguments = ["bench", "--device", "cuda", "--dtype", dtype, "--quick", "--rounds", "2"]
    result = testing.CliRunner().invoke(main, [*arguments, "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    assert {OURS, "eager PyTorch"} <= {row["provider"] for row in document["timings"]}
    for row in document["timings"]:
        assert 0 < row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
        assert row["peak_share"] > 0
        assert row["extra_mib"] >= 0
        assert row["dtype"] == dtype
