"""Builds and runs tests/cpp three times: plain, under AddressSanitizer with UBSan, and under ThreadSanitizer.

python tools/cpp_tests.py [plain] [address] [thread] [neon]

`neon`, only when asked for, compiles for 64-bit ARM and runs the program in QEMU: it needs Debian's packages
g++-aarch64-linux-gnu and qemu-user, and takes a minute.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support import find_compiler, find_tool

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("block_pool_test", "cpu_kernels_test")
VARIANTS = {"plain": "", "address": "address,undefined", "thread": "thread", "neon": ""}
NEON_COMPILER = "aarch64-linux-gnu-g++"
NEON_SETTINGS = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
NEON_MACHINE = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]


def main() -> None:
    chosen = sys.argv[1:] or ["plain", "address", "thread"]
    unknown = set(chosen) - VARIANTS.keys()
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}")
    missing = [tool for tool in (NEON_COMPILER, NEON_MACHINE[0]) if shutil.which(tool) is None]
    if "neon" in chosen and missing:
        sys.exit(f"{', '.join(missing)} not found: apt-get install g++-aarch64-linux-gnu qemu-user")
    cmake, ninja = (find_tool(name, ROOT / "build") for name in ("cmake", "ninja"))
    for name in chosen:
        folder = ROOT / "build" / f"cpp-{name}"
        (folder / "CMakeCache.txt").unlink(missing_ok=True)  # a cache made by another compiler is an error
        configure = [cmake, "-S", ROOT / "tests" / "cpp", "-B", folder, "-G", "Ninja"]
        crossing = name == "neon"
        compiler = NEON_COMPILER if crossing else find_compiler()
        settings = [f"-DBBS_SANITIZE={VARIANTS[name]}", f"-DCMAKE_CXX_COMPILER={compiler}"]
        settings += [f"-DCMAKE_MAKE_PROGRAM={ninja}", *(NEON_SETTINGS if crossing else [])]
        print(f"C++ tests, {name}", flush=True)
        build = [cmake, "--build", folder]
        runs = [[*(NEON_MACHINE if crossing else []), folder / program] for program in PROGRAMS]
        for command in ([*configure, *settings, "--log-level=WARNING"], build, *runs):
            if subprocess.run([str(part) for part in command]).returncode != 0:
                sys.exit(f"C++ tests, {name}: failed")


if __name__ == "__main__":
    main()
