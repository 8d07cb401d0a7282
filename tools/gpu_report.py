"""Builds for the GPU of this machine, tests and times on it, and writes report.json and report.md.

    python tools/gpu_report.py                      # what `make gpu-report` runs: docs/results/gpu
    python tools/gpu_report.py --no-build           # with the package that is installed
    python tools/gpu_report.py --suite main --output /tmp/gpu

Each number of the page stands under the command that printed it. A test run or a bench that fails is reported as such
and the next one starts; both files are written after every command, so a run that is cut off leaves what it has. Where
torch sees no GPU there is one line and nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_page import page
from recorded_run import Command, pytest_counts

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("main", "rules", "sizes")
ROUNDS = "30"
TESTS = (
    Command("pytest", "tests/ptx", "-m", "ptx", env={"BBS_EXECUTOR": "device"}),
    Command("pytest", "tests/cuda", "-m", "cuda"),
)


def gpu() -> dict[str, str] | None:
    """Facts of the first GPU, or None where torch sees none."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "GPU": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "commit": _first_line("git", "describe", "--always", "--dirty"),
    }


def _first_line(*command: str) -> str:
    """What a program prints first; "unknown" where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def build_command(capability: str) -> Command:
    env = {"BBS_CUDA": "1", "BBS_CUDA_ARCHS": capability.replace(".", "")}
    return Command("pip", "install", "--no-build-isolation", "--editable", ".[test,bench,peers]", env=env)


def run_tests(command: Command) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        record = command.run(ROOT, f"--junitxml={results}")
        return {**record, **(pytest_counts(results) if results.exists() else {})}


def run_bench(suite: str) -> dict[str, Any]:
    command = Command("bbs", "bench", "--device", "cuda", "--suite", suite, "--rounds", ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        record = command.run(ROOT, f"--output={folder}")
        results = Path(folder) / "results.json"
        if not record["exit"]:
            record |= json.loads(results.read_text(encoding="utf-8"))
        return {"suite": suite, **record}


def write(document: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(page(document), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "gpu")
    parser.add_argument("--no-build", action="store_true", help="use the package that is installed")
    parser.add_argument("--suite", choices=SUITES, action="append", help="repeatable; default: all")
    options = parser.parse_args()
    machine = gpu()
    if machine is None:
        print("gpu-report: torch sees no GPU on this machine, nothing was run or written")
        return
    build = None
    if not options.no_build:
        build = build_command(machine["compute capability"]).run(ROOT)
        if build["exit"]:
            sys.exit("gpu-report: the build failed, nothing was written; the lines above say why")
    document: dict[str, Any] = {"machine": machine, "build": build, "tests": [], "benches": []}
    for command in TESTS:
        document["tests"].append(run_tests(command))
        write(document, options.output)
    for suite in options.suite or SUITES:
        document["benches"].append(run_bench(suite))
        write(document, options.output)
    print(f"gpu-report: written to {options.output}")
    failed = [run["command"] for run in (*document["tests"], *document["benches"]) if run["exit"]]
    if failed:
        sys.exit(f"gpu-report: failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
