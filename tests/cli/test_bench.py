"""The benchmark: its baseline is the same loss, its files hold the table's numbers, disagreement stops it."""

import json

import pytest
import torch
from click.testing import CliRunner

import basket_softmax as bs
from basket_softmax.cli import main
from bbs_bench import measure as measure_module
from bbs_bench.cases import SCALE, Case, make_data
from bbs_bench.eager import basket_arcface
from bbs_bench.providers import OURS, PROVIDERS, Step
from bbs_bench.settings import CpuSetting
from bbs_kernels import reference

RULES = [bs.All(), bs.Own(), bs.Below(bs.Absolute(0.2)), bs.TopK(k=5, skip=1), bs.TopK(k=40, skip=2)]


@pytest.mark.parametrize("mining", RULES, ids=repr)
def test_eager_baseline_is_the_loss(mining):
    case = Case("small", 17, 8, (5, 31, 9), mining)
    data = make_data(case)
    x, w = (t.detach().double() for t in (data.x, data.w))
    margin = bs.ArcFace(0.5, boundary="none")
    expected = reference.basket_softmax(
        x, w, data.labels, data.offsets, margin=margin, scale=SCALE, mining=mining
    )
    found = basket_arcface(x, w, data.labels, data.offsets, margin=0.5, scale=SCALE, mining=mining)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_eager_baseline_names_what_it_does_not_cover():
    case = Case("small", 4, 8, (5, 6), bs.TopK(k=2, guard=bs.Relative(0.1)))
    data = make_data(case)
    with pytest.raises(ValueError, match=r"TopK without a guard in the eager baseline, got .*Relative"):
        basket_arcface(data.x, data.w, data.labels, data.offsets, margin=0.5, scale=64.0, mining=case.mining)


@pytest.mark.parametrize("margin", [0.5, 0.0])
def test_every_provider_computes_the_same_step(margin):
    """Losses and the embeddings' gradients; the providers that know no margin cover the case without."""
    case = Case("small", 24, 16, (300,), bs.Own(), margin)
    data = make_data(case)
    covered, gradients = set(), {}
    for name, provider in PROVIDERS.items():
        if name.startswith(("torch.compile", "cut-cross-entropy")):  # minutes; timed runs check their losses
            continue
        step = provider(case, data)
        if step is None:
            continue
        covered.add(name)
        loss = step.forward()
        (gradients[name], *_) = step.backward(loss)
        torch.testing.assert_close(
            float(loss.detach()), float(PROVIDERS[OURS](case, data).forward().detach()), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(gradients[name], gradients[OURS], rtol=1e-3, atol=1e-4)
    assert {
        "eager PyTorch",
        "insightface's formula",
        "chunk-over-C loop",
        "bbs-kernels, fused SGD",
        "eager PyTorch, SGD",
    } <= covered
    assert ("F.linear_cross_entropy" in covered) == (margin == 0.0)


def test_whole_stash_is_timed_only_where_the_default_one_is_too_small():
    small = Case("fits", 24, 16, (300,), bs.Own())
    assert PROVIDERS["bbs-kernels, whole stash"](small, make_data(small)) is None
    large = Case("does not fit", 256, 8, (40_000,), bs.Own())
    data = make_data(large)
    steps = [PROVIDERS[name](large, data) for name in (OURS, "bbs-kernels, whole stash")]
    default, whole = (step.backward(step.forward()) for step in steps)
    torch.testing.assert_close(whole, default, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_bench_writes_its_files(tmp_path):
    result = CliRunner().invoke(main, ["bench", "--quick", "--rounds", "2", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    assert {"bbs-kernels", "eager PyTorch"} <= {row["provider"] for row in document["timings"]}
    for row in document["timings"]:
        assert 0 < row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
        assert row["extra_mib"] is not None
    assert "CPU" in document["machine"]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == len(document["timings"]) + 1
    assert (tmp_path / "results.png").stat().st_size > 0


def test_disagreement_stops_the_timing(monkeypatch):
    def wrong(case, data):
        return Step(lambda: (data.x.sum() + data.w.sum()) * 0.0 + 123.0, lambda loss: None)

    monkeypatch.setattr(measure_module, "PROVIDERS", {OURS: PROVIDERS[OURS], "eager PyTorch": wrong})
    with pytest.raises(RuntimeError, match="eager PyTorch computes 123"):
        measure_module.measure(Case("tiny", 8, 16, (20,), bs.All()), CpuSetting("default", 1), rounds=2)


def test_forward_work_counts_what_the_rule_reads():
    assert Case("a", 10, 20, (30, 70), bs.TopK()).forward_gflop() == pytest.approx(2e-9 * 10 * 20 * 100)
    assert Case("b", 10, 20, (30, 70), bs.Own()).forward_gflop() == pytest.approx(2e-9 * 10 * 20 * 58)
