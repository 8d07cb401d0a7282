"""nvcc from a unit of the table to a cubin, kept on disk under the hash of everything that went into it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import click

from .tools import Tools
from .units import Unit

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
CACHE = Path(tempfile.gettempdir()) / "bbs-static-cache"
FLAGS = ("-std=c++17", "-O3", "-lineinfo")  # as CMakeLists.txt compiles them; lines cost no instruction
INCLUDE = re.compile(r'^\s*#include "(.+)"', re.MULTILINE)


def included(source: str) -> list[Path]:
    """The headers of this repository that a source reaches, so that a change elsewhere compiles nothing again."""
    found: dict[Path, None] = {}

    def visit(text: str, folder: Path) -> None:
        for name in INCLUDE.findall(text):
            header = (folder / name).resolve()
            if header not in found:
                found[header] = None
                visit(header.read_text(encoding="utf-8"), header.parent)

    visit(source, CUDA)
    return sorted(found)


def source_hash(source: str) -> str:
    return hashlib.sha256(b"".join(f.read_bytes() for f in included(source))).hexdigest()


def compile_cubin(unit: Unit, arch: str, tools: Tools, version: str) -> Path:
    """`version`: of nvcc, part of the hash."""
    inputs = "" if unit.cutlass else source_hash(unit.source)
    key = hashlib.sha256(f"{unit.source}{arch}{FLAGS}{version}{inputs}".encode()).hexdigest()[:16]
    cubin = CACHE / f"{unit.name}.{arch}.{key}.cubin"
    if cubin.exists():
        return cubin
    CACHE.mkdir(parents=True, exist_ok=True)
    source = CACHE / f"{unit.name}.{arch}.{key}.{os.getpid()}.cu"
    source.write_text(unit.source, encoding="utf-8")
    built = source.with_suffix(".cubin")
    include = tools.cutlass if unit.cutlass else CUDA
    command: list[str | Path] = [
        tools.nvcc,
        *FLAGS,
        f"-arch={arch}",
        "-cubin",
        f"-I{include}",
        source,
        "-o",
        built,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    source.unlink()
    if done.returncode:
        raise click.ClickException(f"{unit.name} does not compile for {arch}:\n{done.stderr}")
    built.rename(cubin)
    return cubin
