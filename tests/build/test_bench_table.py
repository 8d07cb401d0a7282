"""The benchmarks' table from a small result file, and the committed one has its machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("bench_table", ROOT / "tools" / "bench_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MACHINE = {"CPU": "a CPU, 2 cores", "CPU kernels": "generic avx2; in use: avx2", "torch": "2.13.0"}


def row(case, provider, ratio, threads=1):
    return {
        "case": case, "allocator": "default", "threads": threads, "provider": provider, "rounds": 9,
        "median": 0.5, "ratio": ratio, "peak_share": 0.876, "extra_mib": 37.3,
    }  # fmt: skip


def test_ratios_stand_in_the_row_of_their_setting(tool):
    document = {
        "machine": MACHINE,
        "timings": [
            row("a", "bbs-kernels", 1.0), row("a", "eager", 2.345), row("b", "bbs-kernels", 1.0, threads=2),
            row("b", "chunks", 3.0, threads=2),
        ],
    }  # fmt: skip
    lines = tool.table(document).splitlines()
    assert lines[0].endswith("| eager | chunks |")
    assert lines[2] == "| a | 1 | default | 500 | 88% | 2.35 × | – |"
    assert lines[3] == "| b | 2 | default | 500 | 88% | – | 3.00 × |"
    assert lines[-1].startswith(
        "a CPU, 2 cores; CPU kernels avx2; torch 2.13.0; medians of 9 interleaved rounds."
    )


def test_chosen_providers_and_the_settings_that_have_them(tool):
    document = {
        "machine": MACHINE,
        "timings": [
            row("a", "bbs-kernels", 1.0), row("a", "eager", 2.0), row("a", "chunks", 3.0),
            row("b", "bbs-kernels", 1.0), row("b", "eager", 2.0),
        ],
    }  # fmt: skip
    lines = tool.table(document, ["chunks"]).splitlines()
    assert lines[0].endswith("share of peak | chunks |")
    assert [line for line in lines if line.startswith(("| a", "| b"))] == [lines[2]]
    assert lines[2].endswith("| 3.00 × |")


def test_memory_has_a_row_per_case_and_no_optimiser(tool):
    rows = [row("a", "bbs-kernels", 1.0), row("a", "eager, SGD", 1.0), row("b", "bbs-kernels", 1.0)]
    rows.append({**row("a", "eager", 1.0), "extra_mib": 690.6})
    assert tool.memory({"timings": rows}).splitlines() == [
        "| case | bbs-kernels | eager |", "| :-- | --: | --: |", "| a | 37 | 691 |", "| b | 37 | – |",
    ]  # fmt: skip


def test_missing_results_name_the_command(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match="bbs bench --output"):
        tool.read(tmp_path)


@pytest.mark.parametrize("suite", [".", "sizes", "rules"])
def test_committed_results_are_whole(tool, suite):
    document = tool.read(ROOT / "docs" / "results" / "bench" / suite)
    assert "CPU" in document["machine"]
    assert {r["rounds"] for r in document["timings"]} == {9}
    assert len(tool.table(document).splitlines()) > 8


def test_the_tables_of_the_page_together_show_every_provider(tool):
    document = tool.read(ROOT / "docs" / "results" / "bench")
    shown = {provider for providers in tool.TABLES.values() for provider in providers}
    assert shown == {row["provider"] for row in document["timings"]} - {tool.OURS}
