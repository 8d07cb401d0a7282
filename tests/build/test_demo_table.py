"""The demo's table: numbers recomputed by hand from small rows, and the README shows what is committed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])

    def load_tool(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_tool


def row(rule, seed, rank1, seconds=10.0):
    return {
        "rule": rule,
        "seed": seed,
        "rank1": rank1,
        "tar_1e3": rank1 - 0.1,
        "tar_1e4": rank1 - 0.2,
        "seconds": seconds,
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_deviations_and_pairs(load):
    rows = [row("own", 0, 0.80), row("own", 1, 0.84), row("bbs", 1, 0.86), row("bbs", 0, 0.85)]
    lines = load("demo_table").table(rows).splitlines()
    assert cells(lines[2])[1:] == ["82.0 ± 2.8", "0", "72.0 ± 2.8", "62.0 ± 2.8"]
    assert cells(lines[3])[1:] == ["85.5 ± 0.7", "+5.0 +2.0", "75.5 ± 0.7", "65.5 ± 0.7"]
    assert "Seeds 0, 1;" in lines[-1]
    assert "4 trainings, 40 s" in lines[-1]


def test_one_seed_has_no_deviation(load):
    lines = load("demo_table").table([row("own", 0, 0.5), row("all", 0, 0.4)]).splitlines()
    assert cells(lines[3])[1:3] == ["40.0", "-10.0"]
    assert lines[-1].startswith("Seed 0;")


def test_a_rule_without_its_pair(load):
    lines = load("demo_table").table([row("new-rule", 0, 0.5)]).splitlines()
    assert cells(lines[2])[:3] == ["new-rule", "50.0", "–"]


def test_missing_results_name_the_command(load, tmp_path):
    with pytest.raises(FileNotFoundError, match="bbs demo"):
        load("demo_table").read_rows(tmp_path)


def test_readme_space_is_filled_once(load):
    tool = load("update_readme")
    page = "a\n<!-- demo-table -->\nold\n<!-- /demo-table -->\nb\n"
    once = tool.filled(page, "| new |")
    assert once == "a\n<!-- demo-table -->\n\n| new |\n\n<!-- /demo-table -->\nb\n"
    assert tool.filled(once, "| new |") == once
    with pytest.raises(ValueError, match="0 marked spaces"):
        tool.filled("no marks", "| new |")


def test_the_readme_shows_the_committed_results(load):
    folder = ROOT / "docs" / "results" / "many"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert load("update_readme").filled(readme, load("demo_table").table(rows)) == readme
    assert (folder / "results.png").exists()
