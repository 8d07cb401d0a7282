"""The table of docs/install.md is that of the recorded runs, and says so where there was none."""

import importlib.util
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="needs the source tree")


@pytest.fixture(scope="module")
def matrix():
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location("cuda_torch_matrix", TOOLS / "cuda_torch_matrix.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def result(**changed):
    versions = {"python": "3.10", "python_full": "3.10.13", "torch": "2.10.0+cu128", "cuda": "12.8"}
    return {**versions, "passed": 7, "skipped": 0, "failed": 0, "failures": [], "seconds": 9, **changed}


def test_page_has_the_recorded_results(matrix):
    text = matrix.PAGE.read_text(encoding="utf-8")
    assert matrix.page_with(text, matrix.read_results()) == text


def test_results_stand_in_their_rows(matrix):
    rows = matrix.table([result(failed=2)]).splitlines()[2:]
    assert len(rows) == len(matrix.CELLS)
    assert [row for row in rows if "not run yet" not in row] == [
        "| 3.10.13 | 2.10.0+cu128 | 12.8 | 7 passed, 2 failed |"
    ]


def test_a_new_result_replaces_the_old_one(matrix, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "RESULTS", tmp_path / "folder" / "results.json")
    for outcome in (result(passed=1), result(torch="2.11.0"), result(passed=3)):
        matrix.record(outcome)
    assert [(found["torch"], found["passed"]) for found in matrix.read_results()] == [
        ("2.11.0", 7),
        ("2.10.0+cu128", 3),
    ]


def test_missing_interpreter_is_one_line(matrix, monkeypatch):
    monkeypatch.setenv("PYTHON310", "no-such-python")
    with pytest.raises(SystemExit, match="no-such-python is not on PATH: name another one with PYTHON310="):
        matrix.interpreter("3.10")


def test_copy_leaves_out_what_was_built(matrix, tmp_path):
    matrix.copy_checkout(tmp_path / "copy")
    assert (tmp_path / "copy" / "bbs_kernels" / "__init__.py").exists()
    assert not list((tmp_path / "copy").rglob("*.so"))
