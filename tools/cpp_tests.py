"""Builds and runs tests/cpp three times: plain, under AddressSanitizer with UBSan, and under ThreadSanitizer.

python tools/cpp_tests.py [plain] [address] [thread]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support import find_compiler, find_tool

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("block_pool_test", "cpu_kernels_test")
VARIANTS = {"plain": "", "address": "address,undefined", "thread": "thread"}


def main() -> None:
    chosen = sys.argv[1:] or list(VARIANTS)
    unknown = set(chosen) - VARIANTS.keys()
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}")
    compiler = find_compiler()
    cmake, ninja = (find_tool(name, ROOT / "build") for name in ("cmake", "ninja"))
    for name in chosen:
        folder = ROOT / "build" / f"cpp-{name}"
        (folder / "CMakeCache.txt").unlink(missing_ok=True)  # a cache made by another compiler is an error
        configure = [cmake, "-S", ROOT / "tests" / "cpp", "-B", folder, "-G", "Ninja"]
        settings = [f"-DBBS_SANITIZE={VARIANTS[name]}", f"-DCMAKE_CXX_COMPILER={compiler}"]
        settings.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
        print(f"C++ tests, {name}", flush=True)
        build, runs = [cmake, "--build", folder], [[folder / program] for program in PROGRAMS]
        for command in ([*configure, *settings, "--log-level=WARNING"], build, *runs):
            if subprocess.run([str(part) for part in command]).returncode != 0:
                sys.exit(f"C++ tests, {name}: failed")


if __name__ == "__main__":
    main()
