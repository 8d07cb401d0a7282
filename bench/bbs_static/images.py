"""The machine code that is read: the package's images where it has the target, else compiled by the same commands.

CMakeLists.txt beside this file takes the commands from csrc/cuda/images.cmake, as the package's build does; ninja knows
what an image depends on and compiles what is out of date.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import click

from bbs_kernels.ops.images import FOLDER

from .tools import Tools

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = Path(tempfile.gettempdir()) / "bbs-static-cache"  # of what was read and executed, by content
BUILD = ROOT / "build" / "static"
PACKAGE_HEADERS = FOLDER.parent / "include"  # what the images of the package were compiled from


def provide(
    families: Collection[str], arches: Collection[str], tools: Tools, jobs: int
) -> dict[tuple[str, str], Path]:
    """The cubin of each family and target, as ("forward_bf16", "sm_90")."""
    found = {(family, arch): FOLDER / f"{family}.{arch}.cubin" for family in families for arch in arches}
    shipped = {key: path for key, path in found.items() if path.exists()}
    if shipped and (changed := changed_headers()):
        raise click.ClickException(
            f"the package's images were compiled before {changed[0]} changed: install the package again"
        )
    wanted = {key: BUILD / "images" / path.name for key, path in found.items() if key not in shipped}
    if wanted:
        click.echo(f"{len(shipped)} images of the package, {len(wanted)} compiled here where out of date")
        compile_images([path for path in wanted.values()], arches, tools, jobs)
    return {**wanted, **shipped}


def changed_headers(csrc: Path = ROOT / "csrc", installed: Path = PACKAGE_HEADERS) -> list[Path]:
    """The kernel headers of the source tree that are not as the package has them."""
    paths = (p for name in ("common", "cuda") for p in sorted((csrc / name).rglob("*")))
    headers = [p for p in paths if p.suffix in (".h", ".cuh")]
    return [
        p.relative_to(csrc)
        for p in headers
        if not (copy := installed / p.relative_to(csrc)).exists() or copy.read_bytes() != p.read_bytes()
    ]


def sources_digest(csrc: Path = ROOT / "csrc") -> str:
    """Changes with any source of the kernels and of their launches."""
    paths = [
        p for name in ("common", "cuda", "torch") for p in sorted((csrc / name).rglob("*")) if p.is_file()
    ]
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in paths)).hexdigest()


def compile_images(images: list[Path], arches: Collection[str], tools: Tools, jobs: int) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    from build_support import find_compiler, find_tool

    cmake, ninja = (find_tool(name, ROOT / "build") for name in ("cmake", "ninja"))
    settings = {
        "CMAKE_MAKE_PROGRAM": ninja,
        "CMAKE_CXX_COMPILER": find_compiler(),
        "CMAKE_BUILD_TYPE": "Release",
        "BBS_NVCC": tools.nvcc,
        "BBS_CUTLASS": tools.cutlass,
        "BBS_CUDA_ARCHS": ";".join(arch.removeprefix("sm_") for arch in arches),
    }
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "CMakeCache.txt").unlink(missing_ok=True)  # of another compiler, perhaps
    configure = [cmake, "-S", HERE, "-B", BUILD, "-G", "Ninja", *(f"-D{k}={v}" for k, v in settings.items())]
    targets = [str(path.relative_to(BUILD)) for path in images]
    build = [cmake, "--build", BUILD, "--parallel", jobs, "--target", *targets]
    for command in (configure, build):
        done = subprocess.run([str(word) for word in command], capture_output=command is configure, text=True)
        if done.returncode:
            raise click.ClickException(f"{' '.join(map(str, command[:3]))} failed\n{done.stderr or ''}")
