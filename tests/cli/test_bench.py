"""The benchmark: its baseline is the same loss, its files hold the table's numbers, disagreement stops it."""

import json

import pytest
import torch
from click.testing import CliRunner

import basket_softmax as bs
from basket_softmax.cli import main
from bbs_bench import measure as measure_module
from bbs_bench.cases import MARGIN, SCALE, Case, make_data
from bbs_bench.eager import basket_arcface
from bbs_kernels import reference

RULES = [bs.All(), bs.Own(), bs.Below(bs.Absolute(0.2)), bs.TopK(k=5, skip=1), bs.TopK(k=40, skip=2)]


@pytest.mark.parametrize("mining", RULES, ids=repr)
def test_eager_baseline_is_the_loss(mining):
    case = Case("small", 17, 8, (5, 31, 9), mining)
    data = make_data(case)
    x, w = (t.detach().double() for t in (data.x, data.w))
    margin = bs.ArcFace(MARGIN, boundary="none")
    expected = reference.basket_softmax(
        x, w, data.labels, data.offsets, margin=margin, scale=SCALE, mining=mining
    )
    found = basket_arcface(x, w, data.labels, data.offsets, margin=MARGIN, scale=SCALE, mining=mining)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_eager_baseline_names_what_it_does_not_cover():
    case = Case("small", 4, 8, (5, 6), bs.TopK(k=2, guard=bs.Relative(0.1)))
    data = make_data(case)
    with pytest.raises(NotImplementedError, match="Relative"):
        basket_arcface(data.x, data.w, data.labels, data.offsets, margin=0.5, scale=64.0, mining=case.mining)


def test_bench_writes_its_files(tmp_path, monkeypatch):
    from bbs_bench import cases

    monkeypatch.setattr(cases, "QUICK", (Case("tiny", 8, 16, (20, 30), bs.TopK(k=4)),))
    result = CliRunner().invoke(main, ["bench", "--quick", "--rounds", "3", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    assert {row["provider"] for row in document["timings"]} == {"bbs-kernels", "eager PyTorch"}
    for row in document["timings"]:
        assert 0 < row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
    assert "CPU" in document["machine"]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "results.png").stat().st_size > 0


def test_disagreement_stops_the_timing(monkeypatch):
    def wrong(case, data):
        return (lambda: (data.x.sum() + data.w.sum()) * 0.0 + 123.0), (data.x, data.w)

    monkeypatch.setitem(measure_module.PROVIDERS, "eager PyTorch", wrong)
    with pytest.raises(RuntimeError, match="eager PyTorch computes 123"):
        measure_module.measure(Case("tiny", 8, 16, (20,), bs.All()), rounds=2)
