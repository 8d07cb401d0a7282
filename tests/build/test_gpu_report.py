"""tools/gpu_report.py: the page shows a report's numbers, commands are recorded, no GPU means one line and no file."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")

ROW = {
    "case": "one basket", "dtype": "bfloat16", "provider": "bbs-kernels", "rounds": 30, "forward": 1e-4,
    "median": 2.5e-4, "lower_quartile": 2.4e-4, "upper_quartile": 2.61e-4, "ratio": 1.0, "forward_tflops": 321.4,
    "cublas_tflops": 642.8, "peak_share": 0.5, "loss": 0.1, "extra_mib": 12.25,
}  # fmt: skip
REPORT = {
    "machine": {"GPU": "Example 9000", "driver": "1.2.3"},
    "build": {"command": "BBS_CUDA=1 pip install .", "seconds": 61.2, "exit": 0},
    "tests": [
        {"command": "pytest a", "seconds": 1.0, "exit": 0, "passed": 7, "failed": 0, "skipped": 2, "failures": []},
        {"command": "pytest b", "seconds": 1.0, "exit": 1, "passed": 1, "failed": 1, "skipped": 0,
         "failures": ["tests.cuda.test_heads::test_bits"], "output": ["x"]},
        {"command": "pytest c", "seconds": 1.0, "exit": 4, "output": ["no such folder"]},
    ],
    "benches": [
        {"suite": "main", "command": "bbs bench main", "seconds": 9.0, "exit": 0,
         "timings": [ROW, ROW | {"provider": "eager PyTorch", "ratio": 3.456},
                     ROW | {"dtype": "float16", "cublas_tflops": 600.0}],
         "left_out": [{"case": "one basket", "dtype": "bfloat16", "provider": "peer", "reason": "no memory"}]},
        {"suite": "sizes", "command": "bbs bench sizes", "seconds": 9.0, "exit": 2, "output": ["it broke"]},
    ],
}  # fmt: skip


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def test_the_page_shows_the_numbers_under_their_commands(tool):
    page = tool("gpu_page").page(REPORT)
    assert "| GPU | Example 9000 |" in page
    assert "Built in 61 s with `BBS_CUDA=1 pip install .`." in page
    assert "| `pytest a` | 7 | 0 | 2 | 0 |" in page
    assert "- `tests.cuda.test_heads::test_bits`" in page
    assert "| `pytest c` | – | – | – | 4 |" in page
    assert "no such folder" in page
    main = page.split("### Suite main")[1].split("### Suite sizes")[0]
    assert main.strip().startswith("`bbs bench main`")
    assert "**one basket, bfloat16** (cuBLAS: 642.8 TFLOP/s; 30 rounds)" in main
    assert "| bbs-kernels | 0.250 | 0.240 – 0.261 | 1.00 | 321.4 | 50% | 12.2 |" in main
    assert "| eager PyTorch | 0.250 | 0.240 – 0.261 | 3.46 |" in main
    assert main.index("eager PyTorch") < main.index("**one basket, float16**")
    assert "- peer in one basket, bfloat16: no memory" in main
    assert "Failed with exit status 2" in page.split("### Suite sizes")[1]


def test_the_page_of_a_run_that_was_cut_off(tool):
    page = tool("gpu_page").page(REPORT | {"build": None, "benches": []})
    assert "Built in" not in page
    assert "Benchmarks" not in page


def test_commands_are_recorded(tool, tmp_path, capfd):
    command = tool("recorded_run").Command(
        "python", "-c", "import os; print(os.environ['A'])", env={"A": "seen"}
    )
    record = command.run(tmp_path)
    assert record["command"].startswith("A=seen python -c ")
    assert record["exit"] == 0
    assert "output" not in record
    assert "seen" in capfd.readouterr().out.splitlines()
    failing = tool("recorded_run").Command("python", "-c", "print(*range(99), sep='\\n'); exit(3)")
    record = failing.run(tmp_path)
    assert record["exit"] == 3
    assert record["output"][-1] == "98"
    assert len(record["output"]) == tool("recorded_run").TAIL


def test_tests_are_counted(tool, tmp_path):
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "def test_skipped(): pytest.skip('x')\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_error(broken): pass\n"
    )
    command = tool("recorded_run").Command(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)
    )
    record = command.run(tmp_path, f"--junitxml={tmp_path / 'r.xml'}")
    assert record["exit"] == 1
    assert "junitxml" not in record["command"]
    counts = tool("recorded_run").pytest_counts(tmp_path / "r.xml")
    assert (counts["passed"], counts["failed"], counts["skipped"]) == (1, 2, 1)
    assert [name.split("::")[1] for name in counts["failures"]] == ["test_bad", "test_error"]


def test_no_gpu_is_one_line(tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--output", str(tmp_path / "out")])
    tool("gpu_report").main()
    assert capsys.readouterr().out == (
        "gpu-report: torch sees no GPU on this machine, nothing was run or written\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def on_a_gpu(tool, monkeypatch, tmp_path):
    """The tool as on a machine with a GPU, with programs that only write what the real ones would."""
    report, recorded = tool("gpu_report"), tool("recorded_run")
    ran = []

    def run(self, folder, *unreported):
        ran.append(str(self))
        for argument in unreported:
            name, value = argument.split("=")
            if name == "--output":
                results = {"machine": {}, "timings": [ROW], "left_out": []}
                (Path(value) / "results.json").write_text(json.dumps(results))
        return {"command": str(self), "seconds": 1.0, "exit": 0} | self.outcome

    monkeypatch.setattr(recorded.Command, "run", run)
    monkeypatch.setattr(recorded.Command, "outcome", {}, raising=False)
    monkeypatch.setattr(report, "gpu", lambda: {"GPU": "Example", "compute capability": "9.0"})
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--output", str(tmp_path / "out")])
    return report, recorded.Command, ran, tmp_path / "out"


def test_what_runs_on_a_gpu(on_a_gpu):
    report, _, ran, out = on_a_gpu
    report.main()
    assert ran[0].startswith("BBS_CUDA=1 BBS_CUDA_ARCHS=90 pip install ")
    assert ran[1:3] == ["BBS_EXECUTOR=device pytest tests/ptx -m ptx", "pytest tests/cuda -m cuda"]
    assert [command.split()[5] for command in ran[3:]] == ["main", "rules", "sizes"]
    document = json.loads((out / "report.json").read_text())
    assert [bench["timings"] for bench in document["benches"]] == [[ROW]] * 3
    assert "Example" in (out / "report.md").read_text()


def test_a_failure_is_reported_and_the_rest_still_runs(on_a_gpu, monkeypatch):
    report, command, ran, out = on_a_gpu
    monkeypatch.setattr(command, "outcome", {"exit": 1, "output": ["it broke"]})
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--no-build", "--suite", "rules"])
    with pytest.raises(SystemExit, match="failed: BBS_EXECUTOR=device pytest"):
        report.main()
    assert len(ran) == 3
    assert (out / "report.md").read_text().count("it broke") == 3
