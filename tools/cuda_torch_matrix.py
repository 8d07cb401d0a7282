"""Tests this package beside CUDA builds of torch on a machine without a GPU, each in a virtual environment of its own.

    python tools/cuda_torch_matrix.py --torch torch==2.14.1             # one, with this Python
    python tools/cuda_torch_matrix.py --all                             # every row of the table in docs/install.md
    python tools/cuda_torch_matrix.py --write                           # results.json into that table
    python tools/cuda_torch_matrix.py --check                           # fails where the table is another

Every cell installs as the README says (torch, then `pip install --no-build-isolation .`) from a copy of the checkout,
and runs the tests from a folder without the source, so that what is tested is what was installed. Interpreters are
python3.10 to python3.13 on PATH; PYTHON310 … PYTHON313 in the environment name others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "install.md"
RESULTS = ROOT / "docs" / "results" / "cuda_torch" / "results.json"
CELLS = (  # Python, torch
    ("3.11", "2.14.1"),
    ("3.11", "2.11.0"),
    ("3.11", "2.10.0"),
    ("3.10", "2.10.0"),
    ("3.12", "2.14.1"),
    ("3.13", "2.11.0"),
)
TESTS = ("tests/cuda_torch", "tests/precision", "tests/support/test_fake_cuda.py")
OUTCOMES = {"failure": "failed", "error": "failed", "skipped": "skipped"}  # elements of a test case
TOOLS = ("pytest>=8", "hypothesis>=6")
BEGIN, END = "<!-- cuda-torch-table -->\n", "<!-- /cuda-torch-table -->"
VERSIONS = """
import json, platform, sys, torch
from importlib import metadata
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "python_full": platform.python_version(),
                  "torch": torch.__version__, "cuda": torch.version.cuda}))
"""


def stop(message: str) -> None:
    """End with one line."""
    sys.exit(f"cuda_torch_matrix: {message}")


def interpreter(python: str) -> str:
    """Return the program for a Python version such as 3.10."""
    name = os.environ.get(f"PYTHON{python.replace('.', '')}", f"python{python}")
    found = shutil.which(name)
    if found is None:
        stop(f"{name} is not on PATH: name another one with PYTHON{python.replace('.', '')}=...")
    return str(found)


def copy_checkout(target: Path) -> None:
    """Copy what git knows or would add: nothing that was built, which an installation might pick up."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def pytest_counts(junit: Path) -> dict[str, int]:
    """Return how many tests passed, failed and were skipped, from pytest's JUnit file."""
    outcomes = Counter(
        next((kind for tag, kind in OUTCOMES.items() if case.find(tag) is not None), "passed")
        for case in ElementTree.parse(junit).getroot().iter("testcase")
    )
    return {kind: outcomes[kind] for kind in ("passed", "skipped", "failed")}


def run_cell(program: str, requirement: str, folder: Path) -> dict:
    """Install and test in `folder`, which is made anew; returns versions, counts and seconds.

    Raises:
        CalledProcessError: torch or the package could not be installed, which the lines above explain.
    """
    shutil.rmtree(folder, ignore_errors=True)
    source, tests = folder / "source", folder / "tests-only"
    copy_checkout(source)
    shutil.copytree(source / "tests", tests / "tests")
    shutil.copy(source / "pyproject.toml", tests)
    began = time.monotonic()
    subprocess.run([program, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    # No kernels of nvcc: they change nothing here, and take long.
    environment = {"BBS_CUDA": "0", **os.environ}
    for arguments in ([requirement], ["--no-build-isolation", "."], list(TOOLS)):
        print(f"+ pip install {' '.join(arguments)}", flush=True)
        command = [python, "-m", "pip", "install", "--quiet", *arguments]
        subprocess.run(command, check=True, cwd=source, env=environment)
    versions = json.loads(
        subprocess.run([python, "-c", VERSIONS], check=True, cwd=tests, capture_output=True, text=True).stdout
    )
    if versions["cuda"] is None:
        stop(f"{requirement} installed torch {versions['torch']}, which is no CUDA build")
    report = tests / "junit.xml"
    subprocess.run(
        [python, "-m", "pytest", *TESTS, "-m", "not slow", "-q", "--tb=short", f"--junitxml={report}"],
        cwd=tests,
    )
    if not report.exists():
        stop(f"pytest ended without a report beside torch {versions['torch']}, the lines above say why")
    return {**versions, **pytest_counts(report), "seconds": round(time.monotonic() - began)}


def read_results() -> list[dict]:
    """Return what was recorded so far."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


def is_cell(result: dict, python: str, torch: str) -> bool:
    """Return whether `result` is of this row of the table."""
    return result["python"] == python and result["torch"].split("+")[0] == torch


def record(result: dict) -> None:
    """Put `result` in the place of an earlier one of the same versions."""
    python, torch = result["python"], result["torch"].split("+")[0]
    kept = [other for other in read_results() if not is_cell(other, python, torch)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([*kept, result], indent=2) + "\n", encoding="utf-8")


def table(results: list[dict]) -> str:
    """Return the Markdown table: one row per cell, with its result where there is one."""
    lines = ["| Python | torch | CUDA of this torch | result |", "| :-- | :-- | :-- | :-- |"]
    for python, torch in CELLS:
        found = next((result for result in results if is_cell(result, python, torch)), None)
        if found is None:
            lines.append(f"| {python} | {torch} | | not run yet |")
            continue
        counts = [f"{found[kind]} {kind}" for kind in ("passed", "skipped", "failed") if found[kind]]
        lines.append(f"| {found['python_full']} | {found['torch']} | {found['cuda']} | {', '.join(counts)} |")
    return "\n".join(lines) + "\n"


def page_with(text: str, results: list[dict]) -> str:
    """Return the page `text` with the table of `results`."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(results) + "\n" + END + rest.split(END)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--torch", default="torch==2.14.1", help="the requirement for one cell")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for one cell")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".ci" / "cuda-torch", help="for the environments"
    )
    parser.add_argument("--all", action="store_true", help="every row of the table, recorded in results.json")
    parser.add_argument(
        "--write", action="store_true", help="write the table into docs/install.md, run nothing"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the table in docs/install.md, run nothing"
    )
    options = parser.parse_args()
    if options.write or options.check:
        text = PAGE.read_text(encoding="utf-8")
        wanted = page_with(text, read_results())
        if options.check and wanted != text:
            stop(f"the table in {PAGE.name} is not that of {RESULTS.name}: run it with --write")
        PAGE.write_text(wanted, encoding="utf-8")
        return
    cells = [(interpreter(python), f"torch=={torch}") for python, torch in CELLS]
    failed = []
    for program, requirement in cells if options.all else [(options.python, options.torch)]:
        print(f"=== {requirement} with {program}", flush=True)
        try:
            result = run_cell(program, requirement, options.folder.resolve() / "cell")
        except subprocess.CalledProcessError as error:
            print(f"cuda_torch_matrix: {error}", flush=True)
            failed.append(requirement)
            continue
        print(json.dumps(result), flush=True)
        if options.all:
            record(result)
        if result["failed"] or not result["passed"]:
            failed.append(requirement)
    if failed:
        stop(f"failed beside {', '.join(failed)}")


if __name__ == "__main__":
    main()
