"""`run_demo` end to end, with trainings of a few steps: files, table, and the same figures on every run."""

from __future__ import annotations

import csv
import json

import pytest

from basket_softmax.demo import run_demo
from basket_softmax.demo.report import differences
from basket_softmax.demo.train import train_once


@pytest.mark.slow
def test_quick_demo_writes_its_files(tmp_path, capsys):
    rows = run_demo(quick=True, output=tmp_path, steps=12)
    assert [row["rule"] for row in rows] == ["all", "own", "bbs", "oracle"]
    assert json.loads((tmp_path / "results.json").read_text()) == rows
    with (tmp_path / "results.csv").open() as file:
        assert [row["rule"] for row in csv.DictReader(file)] == ["all", "own", "bbs", "oracle"]
    assert (tmp_path / "results.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "Basket-based Softmax" in printed
    assert "What this does not show" in printed
    for row in rows:
        assert set(row) == {"rule", "seed", "rank1", "tar_1e3", "tar_1e4", "seconds"}
        assert 0.0 <= row["tar_1e4"] <= row["tar_1e3"] <= 1.0
        assert 0.0 < row["rank1"] <= 1.0


@pytest.mark.slow
def test_a_failed_training_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    from basket_softmax.demo import run

    monkeypatch.setattr(run, "QUICK", ("own", "no such rule"))
    monkeypatch.setattr(run, "RULES", {"own": None, "no such rule": None})
    with pytest.raises(RuntimeError, match="1 of 2 trainings failed, first no such rule, seed 0"):
        run_demo(quick=True, output=tmp_path, steps=2)
    assert [row["rule"] for row in json.loads((tmp_path / "results.json").read_text())] == ["own"]


def test_a_seed_gives_the_same_figures_and_training_helps():
    first = train_once("bbs", 0, split="validation", steps=2)
    again = train_once("bbs", 0, split="validation", steps=2)
    longer = train_once("bbs", 0, split="validation", steps=40)
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in again.items() if k != "seconds"
    }
    assert longer["rank1"] > first["rank1"]


def test_differences_are_paired_by_seed():
    rows = [
        {"rule": rule, "seed": seed, "rank1": value}
        for rule, seed, value in [
            ("own", 0, 0.5),
            ("own", 1, 0.6),
            ("bbs", 1, 0.65),
            ("bbs", 0, 0.52),
            ("bbs", 2, 0.9),
        ]
    ]
    assert differences(rows, "bbs") == pytest.approx([2.0, 5.0])


def test_messages(tmp_path):
    with pytest.raises(ValueError, match="regime: expected one of 'many', 'style', got 'few'"):
        run_demo(regime="few", output=tmp_path)
    with pytest.raises(ValueError, match="norm: expected one of 'batch', 'group', got 'layer'"):
        run_demo(norm="layer", output=tmp_path)
    with pytest.raises(ValueError, match="seeds: expected at least one, got none"):
        run_demo(seeds=[], output=tmp_path)


def test_the_linker_is_trained_and_judged():
    """Links are looked for from a sixth of the steps on; the second training starts with those of the first."""
    steps = []
    row = train_once("linker-twice", 0, split="validation", steps=24, wrong_labels=0.05, advance=steps.append)
    assert len(steps) == 48
    assert set(row) >= {"rank1", "link_precision", "link_recall"}
    assert 0.0 < row["link_recall"] <= 1.0
    assert 0.0 < row["link_precision"] <= 1.0
