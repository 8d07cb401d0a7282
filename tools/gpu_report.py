"""Builds for the GPU of this machine, tests and measures on it, and writes report.json, report.md and log.txt.

    python tools/gpu_report.py --budget 500                   # what `make gpu-report` runs: docs/results/gpu
    python tools/gpu_report.py --device cpu --budget 180      # a rehearsal: everything but the timing, small

Nothing is fetched and no environment is made: the package is built with this Python, beside the torch that it has.
The items (bench/bbs_gpu/items.py) run in order of their value, each in a process with a limit and a share of the
budget; the files are replaced after every result, so that a run that is cut off leaves what it has. The exit status is
1 if an item failed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from bbs_gpu.document import blank
from bbs_gpu.items import PROCESSES, Process
from bbs_gpu.runner import Runner, stop_on

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = {"cuda": ROOT / "docs" / "results" / "gpu", "cpu": ROOT / "build" / "gpu-rehearsal"}


def driver_finds_a_gpu() -> bool:
    """Asks the driver, not torch, which takes seconds to import."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def environment(device: str, build: bool) -> dict[str, str]:
    """Of the items' processes: the checkout's benches and test helpers are importable. Small shapes take one thread."""
    paths = [str(ROOT / folder) for folder in ("bench", "tests")]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if device == "cpu":
        env["OMP_NUM_THREADS"] = "1"
    return env if build else {**env, "BBS_GPU_REPORT_NO_BUILD": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=500.0, help="seconds for everything (default: 500)")
    parser.add_argument("--output", type=Path, help="folder of the files (default: docs/results/gpu)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--no-build", action="store_true", help="use the package that is installed")
    parser.add_argument(
        "--complete", action="store_true", help="fail if the budget did not suffice for everything"
    )
    options = parser.parse_args()
    if options.device == "cuda" and not driver_finds_a_gpu():
        print(
            "gpu-report: no driver finds a GPU on this machine, nothing was run or written", file=sys.stderr
        )
        return 1
    output = (options.output or OUTPUT[options.device]).resolve()

    def command(process: Process, sheet: Path) -> list[str]:
        return [sys.executable, "-m", "bbs_gpu.child", process.name, str(sheet), options.device]

    stop_on(signal.SIGTERM, signal.SIGINT)
    env = environment(options.device, not options.no_build)
    runner = Runner(blank(options.device), output, options.budget, command, cwd=ROOT, env=env)
    status = runner.run(PROCESSES)
    outcome = runner.document["outcome"]
    print(f"gpu-report: {outcome}, written to {output}")
    return 1 if options.complete and outcome != "complete" else status


if __name__ == "__main__":
    sys.exit(main())
