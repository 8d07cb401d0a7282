"""Items of a GPU's report: tests are counted as they come, logs are read, and a failing part does not end an item."""

from __future__ import annotations

import json

import pytest

from bbs_gpu import suites, tables
from bbs_gpu.compile import told
from bbs_gpu.device import Device
from bbs_gpu.most_classes import needed_bytes
from bbs_gpu.sheet import Sheet
from bbs_gpu.sizes import GPU, REHEARSAL

SAMPLE = """
import pytest
def test_good(): pass
def test_bad(): assert 0, "wrong bits"
def test_skipped(): pytest.skip("x")
@pytest.fixture
def broken(): raise ValueError("no device")
def test_error(broken): pass
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_tests_are_counted(tmp_path, monkeypatch, workers):
    """In this process and in two others."""
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    monkeypatch.setattr(suites, "_workers", lambda device: workers)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    sheet = Sheet(tmp_path / "sheet.json")
    with sheet.item("cuda"):
        suites.run_tests(sheet, Device("cpu"), [["test_sample.py"]], parallel=[True])
    entry = json.loads(sheet.path.read_text())["cuda"]
    assert entry["data"]["counts"] == {"passed": 1, "failed": 2, "skipped": 1}
    assert entry["data"]["run test_sample.py"] == {"workers": workers}
    assert len(entry["failures"]) == 2
    assert any("test_bad" in line and "wrong bits" in line for line in entry["failures"])
    assert any("test_error" in line and "no device" in line for line in entry["failures"])


def test_a_folder_that_is_missing_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    sheet = Sheet(tmp_path / "sheet.json")
    with sheet.item("cuda"):
        suites.run_tests(sheet, Device("cpu"), [["no_such_folder"]], parallel=[False])
    assert "exit status 4" in json.loads(sheet.path.read_text())["cuda"]["failures"][0]


def test_a_part_that_fails_does_not_end_the_item(tmp_path, capsys):
    sheet = Sheet(tmp_path / "sheet.json")
    with sheet.item("kernels"):
        with sheet.part("first"):
            raise MemoryError("no room")
        sheet.put("second", 1)
    entry = json.loads(sheet.path.read_text())["kernels"]
    assert entry["done"]
    assert entry["data"] == {"second": 1}
    assert entry["failures"] == ["first: MemoryError: no room"]
    assert "Traceback" in capsys.readouterr().err


def test_what_is_told_about_graphs():
    prefix = "V1201 05:00:00.1 42 torch/_inductor/x.py:1] [0/0] [__perf_hints] "
    line = "skipping cudagraphs due to cpu device (primals_3)"
    assert told([prefix + line, prefix + line, prefix + "autotuning", "plain"]) == [line]


def test_a_rehearsal_claims_no_replay():
    """It runs the step twice in place of a replay; only a GPU's bits are shown."""
    shown = {}
    for name in ("cpu", "cuda"):
        graph = {"replayed": name == "cuda", "same": True, "eager": None, "replay": None}
        (shown[name],) = tables.graphs({"device": name, "data": {"graph": graph}, "peaks": {}})
    assert "yes" in shown["cuda"]
    assert "yes" not in shown["cpu"]


def test_memory_of_the_most_classes():
    """20 GB of fp32 centres and as much for their gradient."""
    assert needed_bytes(GPU.most_classes[0]) == 2 * 20_480_000_000 + (4 << 30)
    assert needed_bytes(REHEARSAL.most_classes[0]) < 5 << 30
