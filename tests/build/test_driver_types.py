"""The driver's interface as this package declares it, beside NVIDIA's own header."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "cpp" / "driver_types.cpp"
COMPILER = os.environ.get("CXX", "c++")


def include_folder() -> Path | None:
    """Where the cuda.h of nvcc is: nvcc itself says it, since the one on PATH may be a link or a script."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    told = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", "-E", os.devnull], capture_output=True, text=True, check=True
    ).stderr
    found = [Path(p) for p in re.findall(r'"-I([^"]+)"', told)]
    return next((folder for folder in found if (folder / "cuda.h").exists()), None)


@pytest.fixture(scope="module")
def cuda_headers() -> Path:
    folder = include_folder()
    if folder is None:
        pytest.skip("no nvcc with a cuda.h")
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER}")
    return folder


def compiled(headers: Path, csrc: Path, source: Path) -> subprocess.CompletedProcess[str]:
    command = [COMPILER, "-std=c++17", "-fsyntax-only", "-isystem", headers, "-I", csrc, source]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def test_as_in_cuda_h(cuda_headers: Path) -> None:
    done = compiled(cuda_headers, ROOT / "csrc", SOURCE)
    assert done.returncode == 0, done.stderr


def test_looked_up_names_are_those_that_the_header_calls(cuda_headers: Path) -> None:
    """cuda.h renames functions whose interface changed (cuMemHostGetDevicePointer is ..._v2): dlsym must say so."""
    listed = re.findall(r"X\((cu\w+),", (ROOT / "csrc" / "cuda" / "runtime" / "driver.h").read_text())
    assert len(listed) > 10
    renamed = dict(
        re.findall(r"#define (cu\w+) +(?:__CUDA_API_PTSZ\()?(cu\w+)", (cuda_headers / "cuda.h").read_text())
    )
    assert not {name: renamed[name] for name in listed if renamed.get(name, name) != name}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("driver_types.h", "kSharedPerBlockOptin = 97", "kSharedPerBlockOptin = 8"),
        ("driver_types.h", "unsigned shared_bytes;\n  Stream stream;", "Stream stream;\n  unsigned shared_bytes;"),
        ("driver.h", "int value, KernelHandle kernel,", "KernelHandle kernel, int value,"),
        ("driver.h", "(void** memory, size_t bytes", "(void** memory, unsigned bytes"),
        ("driver.h", "(Context context)", "(Context * context)"),
    ],
)  # fmt: skip
def test_a_difference_does_not_compile(
    file: str, before: str, after: str, cuda_headers: Path, tmp_path: Path
) -> None:
    runtime = tmp_path / "csrc" / "cuda" / "runtime"
    shutil.copytree(ROOT / "csrc" / "cuda" / "runtime", runtime)
    text = (runtime / file).read_text()
    assert before in text
    (runtime / file).write_text(text.replace(before, after))
    source = tmp_path / "tests" / "cpp" / SOURCE.name
    source.parent.mkdir(parents=True)
    shutil.copy(SOURCE, source)
    done = compiled(cuda_headers, tmp_path / "csrc", source)
    assert done.returncode != 0
    assert "static assertion failed" in done.stderr or "static_assert failed" in done.stderr
