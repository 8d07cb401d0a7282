"""Timing on the CPU: clock, memory, what is left out on a GPU and what stops a run; and the rows of both devices."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import basket_softmax as bs
from bbs_bench import measure as measure_module
from bbs_bench import report
from bbs_bench.cases import SUITES, Case, make_data
from bbs_bench.clock import CpuClock, clock_for
from bbs_bench.measure import measure
from bbs_bench.memory import extra_mib
from bbs_bench.orchestrate import run_suite
from bbs_bench.providers import OURS, OURS_SGD, PROVIDERS, Step
from bbs_bench.results import LeftOut, Timing
from bbs_bench.settings import CpuSetting, CudaSetting

CASE = Case("tiny", 8, 16, (20,), bs.All())


def timing(setting, **changes):
    values = {"case": "c", "setting": setting, "provider": OURS, "rounds": 2, "forward": 0.25, "median": 0.5}
    values |= {"lower_quartile": 0.4, "upper_quartile": 0.6, "ratio": 1.0, "forward_gflops": 3000.0}
    return Timing(**values | {"peak_gflops": 6000.0, "loss": 1.5} | changes)


def test_the_cpu_clock_tells_forward_from_backward():
    step = Step(
        lambda: time.sleep(0.02) or torch.tensor(2.5, requires_grad=True),
        lambda loss: time.sleep(0.06) or (),
    )
    forward, total, loss = CpuClock(1).run(step)
    assert 0.02 <= forward < total
    assert total - forward >= 0.06
    assert loss == 2.5


def test_the_cpu_peak_counts_threads(monkeypatch):
    monkeypatch.setattr("bbs_bench.clock._core", SimpleNamespace(fma_peak=lambda seconds: 10.0))
    assert clock_for(CpuSetting("default", 3)).peak() == 30.0


def test_memory_is_what_a_step_holds_beside_its_gradients():
    held, owed = 64, 8

    def backward(loss):
        scratch = torch.ones(held << 18)
        return (torch.ones(owed << 18) * scratch[0],)

    extra = extra_mib(Step(lambda: torch.tensor(0.0), backward), "cpu")
    assert 0.9 * held < extra < 1.5 * held


def test_rows_of_the_cpu():
    assert list(timing(CpuSetting("tuned", 2)).row()) == [
        "case", "allocator", "threads", "provider", "rounds", "forward", "median", "lower_quartile",
        "upper_quartile", "ratio", "forward_gflops", "peak_share", "loss", "extra_mib",
    ]  # fmt: skip


def test_rows_of_a_gpu_are_in_tflops():
    row = timing(CudaSetting("bfloat16")).row()
    assert (row["dtype"], row["forward_tflops"], row["cublas_tflops"], row["peak_share"]) == (
        "bfloat16", 3.0, 6.0, 0.5,
    )  # fmt: skip
    assert not {"allocator", "threads", "forward_gflops"} & row.keys()


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The rules of a GPU's run with the CPU's clock and data; `use` sets the peers."""
    monkeypatch.setattr(measure_module, "clock_for", lambda setting: CpuClock(1))
    monkeypatch.setattr(measure_module, "extra_mib", lambda step, device: 7.0 if device == "cuda" else None)
    monkeypatch.setattr(measure_module, "make_data", lambda case, device, dtype: make_data(case, dtype=dtype))

    def use(**peers):
        monkeypatch.setattr(measure_module, "PROVIDERS", {OURS: PROVIDERS[OURS], **peers})
        return measure(CASE, CudaSetting("float32"), rounds=2)

    return use


def right(case, data):
    return PROVIDERS["eager PyTorch"](case, data)


def wrong(case, data):
    return Step(lambda: (data.x.sum() + data.w.sum()) * 0.0 + 123.0, lambda loss: ())


def failing(case, data):
    raise RuntimeError("no kernel for this. Try another one.\nlong text")


def test_a_peer_that_fails_or_is_alone_with_its_loss_is_left_out(on_a_gpu):
    timings, left_out = on_a_gpu(right=right, failing=failing, wrong=wrong)
    assert [(t.provider, t.extra_mib) for t in timings] == [(OURS, 7.0), ("right", 7.0)]
    reasons = {item.provider: item.reason for item in left_out}
    assert reasons["failing"] == "RuntimeError: no kernel for this"
    assert reasons["wrong"].startswith("computes 123, ours ")


def test_ours_alone_with_its_loss_stops_the_run(on_a_gpu):
    with pytest.raises(RuntimeError, match=r"computes 123, ours .*; nothing timed"):
        on_a_gpu(wrong=wrong, failing=failing)


def test_a_failing_peer_stops_the_run_on_the_cpu(monkeypatch):
    monkeypatch.setattr(measure_module, "PROVIDERS", {OURS: PROVIDERS[OURS], "failing": failing})
    with pytest.raises(RuntimeError, match="no kernel"):
        measure(CASE, CpuSetting("default", 1), rounds=2)


def test_only_the_providers_that_are_asked_for_are_timed(on_a_gpu):
    timings, left_out = on_a_gpu(right=right, failing=failing)
    assert left_out
    timings, left_out = measure(CASE, CudaSetting("float32"), rounds=2, providers=(OURS, "right"))
    assert [t.provider for t in timings] == [OURS, "right"]
    assert left_out == []


def test_a_suite_of_a_gpu_runs_in_this_process(on_a_gpu, monkeypatch):
    on_a_gpu(right=right)
    monkeypatch.setitem(SUITES, "gpu", (CASE, replace(CASE, name="again")))
    shown, rounds = [], []
    timings, _ = run_suite(
        "gpu", [CudaSetting("float32")], rounds=2, describe=shown.append, advance=lambda: rounds.append(1)
    )
    assert [(t.case, t.provider) for t in timings] == [
        ("tiny", OURS), ("tiny", "right"), ("again", OURS), ("again", "right"),
    ]  # fmt: skip
    assert len(rounds) == 4
    assert shown == ["tiny, float32 embeddings", "again, float32 embeddings"]


def test_a_loss_near_zero_may_be_zero_elsewhere():
    """Without a margin ours is 1e-14 where a cross entropy in fp32 has subtracted everything away."""
    losses = {OURS: 2e-14, "peer": 0.0}
    assert measure_module._disagreeing(losses, CpuSetting("default", 1)) == {}
    losses["peer"] = float("nan")
    assert list(measure_module._disagreeing(losses, CpuSetting("default", 1))) == ["peer"]


def test_files_of_a_gpu(tmp_path, capsys):
    timings = [
        timing(CudaSetting("bfloat16")),
        timing(CudaSetting("bfloat16"), provider="peer", ratio=2.0, median=1.5e-4, lower_quartile=1e-4),
    ]
    left_out = [LeftOut("c", CudaSetting("bfloat16"), "other", "no kernel")]
    report.print_table(timings)
    shown = capsys.readouterr().out
    assert "of cuBLAS" in shown
    assert "0.150" in shown
    assert report.left_out_lines(left_out) == ["left out: other (no kernel): c, bfloat16 embeddings"]
    report.write(timings, left_out, {"CPU": "a", "GPU": "b"}, tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert '"reason": "no kernel"' in text
    assert (tmp_path / "results.csv").read_text().startswith("case,dtype,provider,")
    assert (tmp_path / "results.png").stat().st_size > 0


def test_a_step_with_the_optimiser_is_set_beside_ours_with_one() -> None:
    steps = dict.fromkeys((OURS, OURS_SGD, "eager PyTorch", "eager PyTorch, SGD"))
    assert [measure_module._counterpart(name, steps) for name in steps] == [OURS, OURS, OURS, OURS_SGD]
    assert (
        measure_module._counterpart("eager PyTorch, SGD", {OURS: None}) == OURS
    )  # a GPU has no fused step yet
