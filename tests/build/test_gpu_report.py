"""tools/gpu_report.py: what its runner leaves behind when an item fails, hangs, or the time is used up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")
sys.path.insert(0, str(ROOT / "bench"))

from bbs_gpu import document as doc  # noqa: E402  (needs the path above)
from bbs_gpu.items import ITEMS, PROCESSES, Item, Process  # noqa: E402
from bbs_gpu.page import page  # noqa: E402
from bbs_gpu.runner import Runner  # noqa: E402
from bbs_gpu.sheet import Sheet, plain  # noqa: E402

# A process of three kinds of item: a script that writes its sheet, given here as Python.
PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from bbs_gpu.sheet import Sheet
sheet = Sheet(Path(sys.argv[1]))
"""
GOOD = "with sheet.item('{key}'):\n    sheet.put('figure', 1.5)\n"
BAD = "with sheet.item('{key}'):\n    sheet.put('figure', 2.5)\n    raise ValueError('no kernel')\n"
HANGS = "with sheet.item('{key}'):\n    sheet.put('figure', 3.5)\n    print('so far')\n    time.sleep(600)\n"
HANGS_WITH_PID = HANGS.replace("sheet.put", "sheet.put('pid', os.getpid())\n    sheet.put", 1)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "bench")}


def process(key: str, share: float = 0.1, limit: float = 60.0, needed: bool = False) -> Process:
    return Process((Item(key, f"Title of {key}"),), share, limit, needed)


@pytest.fixture
def run(tmp_path):
    """Run processes whose scripts are given by name; returns the exit status and the report on disk."""

    def run(scripts: dict[str, str], processes: list[Process], budget: float = 60.0):
        keys = tuple(item.key for process in processes for item in process.items)

        def command(process: Process, sheet: Path) -> list[str]:
            return [
                sys.executable,
                "-c",
                PRELUDE + scripts[process.name].format(key=process.name),
                str(sheet),
            ]

        runner = Runner(
            doc.blank("cpu", keys), tmp_path / "out", budget, command, cwd=ROOT, env=environment()
        )
        status = runner.run(processes)
        return status, json.loads((tmp_path / "out" / "report.json").read_text())

    return run


def statuses(report) -> dict[str, str]:
    return {key: record["status"] for key, record in report["items"].items()}


def test_results_are_merged(run, tmp_path, capsys):
    status, report = run({"a": GOOD + "print('said')\n", "b": GOOD}, [process("a"), process("b")])
    assert status == 0
    assert report["outcome"] == "complete"
    assert statuses(report) == {"a": "ok", "b": "ok"}
    assert report["items"]["a"]["data"] == {"figure": 1.5}
    assert report["items"]["a"]["output"] == []
    assert "said" in (tmp_path / "out" / "log.txt").read_text()
    assert "gpu-report: a: ok" in capsys.readouterr().out


def test_a_failing_item_is_kept_and_the_rest_runs(run, capsys):
    status, report = run({"a": BAD, "b": GOOD}, [process("a"), process("b")])
    assert status == 1
    assert statuses(report) == {"a": "failed", "b": "ok"}
    assert report["items"]["a"]["failures"] == ["ValueError: no kernel"]
    assert report["items"]["a"]["data"] == {"figure": 2.5}
    assert any("Traceback" in line for line in report["items"]["a"]["output"])
    assert "ValueError: no kernel" in capsys.readouterr().out


def test_what_is_needed_stops_the_rest(run):
    status, report = run({"a": BAD, "b": GOOD}, [process("a", needed=True), process("b")])
    assert status == 1
    assert statuses(report) == {"a": "failed", "b": "not reached"}
    assert report["items"]["b"]["reason"] == "stopped: title of a did not succeed"
    assert report["outcome"] == "stopped: title of a did not succeed"


def test_what_is_needed_may_fail_and_say_that_the_rest_can_run(run):
    fallback = "with sheet.item('a'):\n    sheet.fail('no nvcc')\n    sheet.go_on()\n"
    status, report = run({"a": fallback, "b": GOOD}, [process("a", needed=True), process("b")])
    assert status == 1
    assert statuses(report) == {"a": "failed", "b": "ok"}


def test_a_skipped_item_says_why_and_fails_nothing(run):
    skips = "with sheet.item('a'):\n    sheet.skip('no such tool')\n"
    status, report = run({"a": skips}, [process("a", needed=True)])
    assert status == 0
    assert statuses(report) == {"a": "skipped"}
    assert report["items"]["a"]["reason"] == "no such tool"


def test_a_process_that_dies_is_a_failure_of_the_item_at_work(run):
    items = (Item("a", "A"), Item("b", "B"), Item("c", "C"))
    dies = GOOD.format(key="a") + "with sheet.item('b'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    status, report = run({"a": dies}, [Process(items, 0.5, 60.0)])
    assert status == 1
    assert statuses(report) == {"a": "ok", "b": "failed", "c": "not reached"}
    assert report["items"]["b"]["reason"] == "ended with exit status -9 before it was done"


def test_a_process_that_dies_at_once_is_a_failure(run):
    status, report = run({"a": "raise SystemExit('no torch')"}, [process("a")])
    assert status == 1
    assert report["items"]["a"]["status"] == "failed"
    assert report["items"]["a"]["output"] == ["no torch"]


def test_an_item_that_hangs_is_ended_and_fails(run):
    status, report = run({"a": HANGS, "b": GOOD}, [process("a", 0.5, limit=2.0), process("b", 0.5)])
    assert status == 1
    assert statuses(report) == {"a": "failed", "b": "ok"}
    assert report["items"]["a"]["reason"] == "took longer than its limit of 2 s"
    assert report["items"]["a"]["data"] == {"figure": 3.5}
    assert report["items"]["a"]["output"] == ["so far"]


def test_the_budget_ends_a_run_with_what_it_has(run):
    processes = [process("a", 0.5), process("b", 0.3), process("c", 0.2)]
    began = time.monotonic()
    status, report = run({"a": GOOD, "b": HANGS, "c": GOOD}, processes, budget=13.0)
    assert time.monotonic() - began < 20.0
    assert status == 0  # nothing was wrong
    assert statuses(report) | {"c": None} == {"a": "ok", "b": "cut off", "c": None}
    assert report["items"]["b"]["data"] == {"figure": 3.5}
    assert report["outcome"] == "the budget was used up"


def test_no_time_is_left_for_the_last(run):
    status, report = run({"a": HANGS, "b": GOOD}, [process("a", 1.0), process("b", 0.0)], budget=5.0)
    assert status == 0
    assert statuses(report) == {"a": "cut off", "b": "not reached"}


def wait_for_the_end(pid: int) -> None:
    """Wait for the end of a process that may stay behind as a zombie, where nobody asks for its status."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(") ")[2][0] not in "ZX":
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def test_a_needed_item_that_was_cut_off_is_no_success(run):
    status, report = run(
        {"a": HANGS, "b": GOOD}, [process("a", 0.1, needed=True), process("b", 0.9)], budget=8.0
    )
    assert status == 1
    assert statuses(report) == {"a": "cut off", "b": "not reached"}


def test_what_is_needed_may_take_from_what_comes_after(run):
    slow = "time.sleep(3)\n" + GOOD
    processes = [Process((Item("a", "A"),), 0.01, 60.0, needed=True, until=0.9), process("b", 0.99)]
    status, report = run({"a": slow, "b": GOOD}, processes)
    assert status == 0
    assert statuses(report) == {"a": "ok", "b": "ok"}


def test_children_of_an_item_end_with_it(run, tmp_path):
    pid = tmp_path / "pid"
    script = (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"Path({str(pid)!r}).write_text(str(child.pid))\n" + HANGS
    )
    run({"a": script}, [process("a", 1.0, limit=3.0)])
    wait_for_the_end(int(pid.read_text()))


TERMINATED = """
import signal, sys
from pathlib import Path
from bbs_gpu.document import blank
from bbs_gpu.items import Item, Process
from bbs_gpu.runner import Runner, stop_on
stop_on(signal.SIGTERM)
processes = [Process((Item(key, key),), 0.5, 60.0) for key in ("steps", "large")]
command = lambda process, sheet: [sys.executable, "-c", {script!r}.format(key=process.name), str(sheet)]
runner = Runner(blank("cpu", ("steps", "large")), Path({folder!r}), 60.0, command, cwd={root!r}, env={env!r})
sys.exit(runner.run(processes))
"""


def test_sigterm_and_sigkill_leave_a_complete_report(tmp_path):
    for number, outcome in ((signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGKILL, "cut off")):
        folder = tmp_path / number.name
        program = TERMINATED.format(
            script=PRELUDE + HANGS_WITH_PID, folder=str(folder), root=str(ROOT), env=environment()
        )
        child = subprocess.Popen([sys.executable, "-c", program], env=environment())
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.1)
            path = folder / "report.json"
            if path.exists() and json.loads(path.read_text())["items"]["steps"]["data"]:  # never half a file
                break
        child.send_signal(number)
        assert child.wait(20) == (143 if number is signal.SIGTERM else -signal.SIGKILL)
        report = json.loads(path.read_text())
        assert report["outcome"] == outcome
        assert statuses(report) == {"steps": "cut off", "large": "not reached"}
        assert report["items"]["steps"]["data"]["figure"] == 3.5
        text = (folder / "report.md").read_text()
        assert "| One step per dtype | cut off |" in text
        assert "| Large cases | not reached |" in text
        wait_for_the_end(report["items"]["steps"]["data"]["pid"])
        assert sorted(p.name for p in folder.iterdir()) == ["log.txt", "report.json", "report.md"]


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    """A write that fails on the way leaves the old one."""
    path = tmp_path / "report.json"
    doc.replace(path, "old")
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        doc.replace(path, "new")
    assert path.read_text() == "old"


def test_what_is_not_finite_is_written_by_name(tmp_path):
    sheet = Sheet(tmp_path / "sheet.json")
    with sheet.item("a"):
        sheet.put("loss", [float("nan"), (float("inf"), 1.0)])
    assert json.loads(sheet.path.read_text())["a"]["data"] == {"loss": ["nan", ["inf", 1.0]]}
    assert plain({1: 2}) == {"1": 2}


def test_the_page_of_nothing_has_every_table():
    text = page(doc.blank("cuda"))
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        item.title for item in ITEMS
    ]
    assert text.count("not measured") > 500
    rows = [line for line in text.splitlines() if line.startswith("| ") and "C 1,000,000" in line]
    assert len(rows) > 50
    columns = {}
    for line in text.splitlines():  # every row of a table has the columns of its head
        if line.startswith("|"):
            columns.setdefault(len(columns) if not columns else max(columns), []).append(line.count(" | "))
        elif columns.get(max(columns, default=0)):
            columns[max(columns) + 1] = []
    assert all(len(set(counts)) == 1 for counts in columns.values() if counts)


def test_the_half_that_writes_the_report_needs_no_torch():
    """It must outlive whatever torch and the driver do."""
    check = "import sys, bbs_gpu.runner, bbs_gpu.document; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], env=environment()).returncode == 0


def test_every_item_has_a_module_and_a_share():
    keys = [item.key for item in ITEMS]
    assert len(set(keys)) == len(keys)
    assert all((ROOT / "bench" / "bbs_gpu" / f"{key}.py").exists() for key in keys)
    assert sum(process.share for process in PROCESSES) == pytest.approx(1.0)
    assert [process.name for process in PROCESSES if process.needed] == ["facts", "build", "steps"]


def test_no_gpu_is_one_line(tmp_path):
    """Where no driver is: with one, this would be the report itself."""
    sys.path.insert(0, str(ROOT / "tools"))
    from gpu_report import driver_finds_a_gpu

    if driver_finds_a_gpu():
        pytest.skip("there is a GPU here")
    command = [sys.executable, str(ROOT / "tools" / "gpu_report.py"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ("gpu-report: no driver finds a GPU on this machine, nothing was run or written\n")
    assert not (tmp_path / "out").exists()


def test_the_committed_report_fills_every_table_of_the_page():
    """Of a GPU, or of nothing: a rehearsal belongs elsewhere."""
    report = json.loads((ROOT / "docs" / "results" / "gpu" / "report.json").read_text())
    assert report["device"] == "cuda"
    assert list(report["items"]) == [item.key for item in ITEMS]
    assert report.keys() == doc.blank().keys()
    text = page(report)
    assert all(f"## {item.title}" in text for item in ITEMS)
    assert "<!-- gpu-report -->" in (ROOT / "docs" / "gpu.md").read_text()
