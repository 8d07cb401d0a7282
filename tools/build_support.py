"""The build as plain functions: find torch, a compiler, CMake and ninja, decide about CUDA, run CMake.

Each thing that is missing ends the build with one line that says what to do. Whether a GPU is present never matters.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

CUDA_CHOICES = ("auto", "0", "1")
LEAST_ARCH = 80
# The program inside the folder of `pip install --target`. cmake's bin/cmake is a script bound to one interpreter, which
# may be gone at the next build; this is the program itself.
FETCHED = {"cmake": "cmake/data/bin/cmake", "ninja": "bin/ninja"}


def stop(message: str) -> NoReturn:
    sys.exit(f"bbs-kernels: {message}")


def find_torch():
    try:
        import torch
    except ImportError:
        stop(
            "building needs torch in the same environment: run `pip install torch`, then "
            "`pip install --no-build-isolation .` (an isolated build cannot see your torch)"
        )
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        stop(f"torch {torch.__version__} is installed, torch 2.10 or later is needed")
    return torch


def find_compiler() -> str:
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None or shutil.which(compiler.split()[0]) is None:
        stop(
            f"no C++ compiler found (CXX={os.environ.get('CXX', '')!r}; looked for c++, g++, clang++): "
            "install one, for example `apt-get install g++`"
        )
    return compiler


def find_tool(name: str, build_dir: Path) -> str:
    """`cmake` or `ninja`: from PATH, from this environment, or installed with pip beside the build files."""
    beside_python = Path(sys.executable).parent / name
    target = (
        build_dir / "tools" / name
    )  # one folder each: pip --target replaces a `bin` that is already there
    fetched = target / FETCHED[name]
    for candidate in (shutil.which(name), beside_python, fetched):
        if candidate and Path(candidate).exists():
            return str(candidate)
    print(f"bbs-kernels: {name} not found, installing it into {target}", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(target), name]
    if subprocess.run(command).returncode != 0 or not fetched.exists():
        stop(f"{name} is needed and could not be installed: run `pip install {name}`, or put it on PATH")
    return str(fetched)


def find_nvcc() -> str | None:
    """nvcc of a toolkit on PATH, else of the one that requirements-cuda.txt puts into this environment."""
    if found := shutil.which("nvcc"):
        return found
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    return next((str(nvcc) for nvcc in sorted(packages.glob("cu*/bin/nvcc"), reverse=True)), None)


def want_cuda(torch) -> bool:
    """BBS_CUDA=auto (default): with nvcc and a CUDA build of torch; 1: always; 0: never."""
    choice = os.environ.get("BBS_CUDA", "auto")
    if choice not in CUDA_CHOICES:
        stop(f"BBS_CUDA: expected one of {', '.join(CUDA_CHOICES)}, got {choice!r}")
    if choice == "1" and find_nvcc() is None:
        stop(
            "BBS_CUDA=1, but nvcc is not on PATH: `pip install -r requirements-cuda.txt`, or install the CUDA toolkit"
        )
    if choice == "auto":
        return find_nvcc() is not None and torch.version.cuda is not None
    return choice == "1"


def cuda_archs() -> str | None:
    """BBS_CUDA_ARCHS ("80;90" or "80 90": machine code for both, PTX of the last) as CMake wants it, or None.

    A target with a suffix, as 90a, is machine code for GPUs of that kind alone: later ones cannot run its PTX, so none
    is installed (csrc/cuda/images.cmake).
    """
    text = os.environ.get("BBS_CUDA_ARCHS")
    if not text:
        return None
    archs = list(dict.fromkeys(text.replace(";", " ").replace(",", " ").split()))
    for arch in archs:
        number = re.fullmatch(r"([0-9]+)[af]?", arch)
        if not number or int(number[1]) < LEAST_ARCH:
            stop(
                f"BBS_CUDA_ARCHS: expected numbers from {LEAST_ARCH} on, as in 80;90, with a or f behind for machine "
                f"code of one kind of GPU, as in 90a, got {arch!r} in {text!r}"
            )
    if not archs:
        stop(f"BBS_CUDA_ARCHS: expected numbers from {LEAST_ARCH} on, as in 80;90, got none in {text!r}")
    return ";".join(archs)


def pybind11_include(torch_include: Path) -> Path:
    """The pybind11 package where there is one, else the copy of the headers that torch carries."""
    if importlib.util.find_spec("pybind11") is not None:
        import pybind11

        return Path(pybind11.get_include())
    return torch_include


def build_libraries(root: Path, package: Path, *, version: str) -> None:
    """Compiles everything and installs the shared objects into `package`."""
    torch = find_torch()
    compiler = find_compiler()
    torch_root = Path(torch.__file__).parent
    build_dir = root / "build" / f"cmake-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    build_dir.mkdir(parents=True, exist_ok=True)
    cmake = find_tool("cmake", root / "build")
    ninja = find_tool("ninja", root / "build")
    settings = {
        "CMAKE_MAKE_PROGRAM": ninja,
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_BUILD_TYPE": os.environ.get("BBS_BUILD_TYPE", "Release"),
        "TORCH_INCLUDE_DIR": torch_root / "include",
        "TORCH_LIBRARY_DIR": torch_root / "lib",
        "TORCH_VERSION": torch.__version__,
        "PYBIND11_INCLUDE_DIR": pybind11_include(torch_root / "include"),
        "PYTHON_INCLUDE_DIR": sysconfig.get_path("include"),
        "PYTHON_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
        "BBS_VERSION": version,
        "BBS_WITH_CUDA": "ON" if want_cuda(torch) else "OFF",
    }
    if settings["BBS_WITH_CUDA"] == "ON":
        settings["BBS_NVCC"] = find_nvcc()
        if archs := cuda_archs():
            settings["BBS_CUDA_ARCHS"] = archs
    for folder in ("include", "images"):  # an editable install may hold those of an earlier build
        shutil.rmtree(package / folder, ignore_errors=True)
    # A changed generator or compiler makes an old cache unusable; the cache is small, so start afresh each time.
    (build_dir / "CMakeCache.txt").unlink(missing_ok=True)
    configure = [
        cmake,
        "-S",
        root,
        "-B",
        build_dir,
        "-G",
        "Ninja",
        *(f"-D{k}={v}" for k, v in settings.items()),
    ]
    for command in (
        configure,
        [cmake, "--build", build_dir],
        [cmake, "--install", build_dir, "--prefix", package],
    ):
        if subprocess.run([str(part) for part in command]).returncode != 0:
            stop("the build failed; the lines above say where")
