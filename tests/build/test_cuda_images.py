"""Which images a build makes for its targets, as CMake lists them. Nothing is compiled for CUDA here."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from bbs_kernels import _core
from bbs_kernels.ops.images import shipped

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="needs the source tree")

PROJECT = f"""
cmake_minimum_required(VERSION 3.18)
project(images LANGUAGES CXX)
set(BBS_NVCC {ROOT / "setup.py"})  # any file: it is not run
include({ROOT}/csrc/cuda/images.cmake)
bbs_kernel_images({ROOT}/csrc/cuda images)
foreach(image IN LISTS images)
  get_filename_component(name ${{image}} NAME)
  file(APPEND ${{CMAKE_CURRENT_BINARY_DIR}}/list "${{name}}\\n")
endforeach()
add_custom_target(all_images DEPENDS ${{images}})
"""


# One image, of a source and a header of the test's own.
SMALL = f"""
cmake_minimum_required(VERSION 3.18)
project(image LANGUAGES CXX)
include({ROOT}/csrc/cuda/images.cmake)
set(base ${{CMAKE_CURRENT_BINARY_DIR}}/small)
bbs_cuda_image(${{CMAKE_CURRENT_SOURCE_DIR}}/small.cu ${{base}} 80 ${{CMAKE_CURRENT_SOURCE_DIR}}/headers)
add_custom_target(image ALL DEPENDS ${{base}}.sm_80.cubin)
"""


@pytest.fixture(scope="module")
def support():
    spec = importlib.util.spec_from_file_location("build_support", ROOT / "tools" / "build_support.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tools(support) -> list[str]:
    return [support.find_tool(name, ROOT / "build") for name in ("cmake", "ninja")]


def configured(tools: list[str], folder: Path, project: str, **settings: str) -> Path:
    """The build folder of a CMake project with this text."""
    (folder / "CMakeLists.txt").write_text(project)
    command = [
        tools[0],
        "-S",
        folder,
        "-B",
        folder / "build",
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tools[1]}",
    ]
    subprocess.run([*command, *(f"-D{k}={v}" for k, v in settings.items())], check=True, capture_output=True)
    return folder / "build"


@pytest.fixture
def images_for(tmp_path, tools):
    """Configures a project with these targets; the images by name, and what a dry run of ninja would do."""

    def configure(archs: str) -> tuple[set[str], str]:
        build = configured(tools, tmp_path, PROJECT, BBS_CUDA_ARCHS=archs)
        plan = subprocess.run(
            [tools[1], "-C", build, "-n", "-v", "all_images"], check=True, capture_output=True, text=True
        )
        return set((build / "list").read_text().split()), plan.stdout

    return configure


def families() -> set[str]:
    return {kernel["family"] for kernel in _core.cuda_kernels()}


@pytest.mark.parametrize(
    ("archs", "endings"),
    [
        ("80;90", ["sm_80.cubin", "sm_90.cubin", "compute_90.ptx"]),
        ("90;80", ["sm_80.cubin", "sm_90.cubin", "compute_80.ptx"]),
        ("80;90a", ["sm_80.cubin", "sm_90a.cubin", "compute_80.ptx"]),  # later GPUs cannot run compute_90a
        ("90a", ["sm_90a.cubin"]),
    ],
)
def test_every_family_has_machine_code_and_ptx_that_lasts(images_for, archs, endings):
    listed, plan = images_for(archs)
    assert listed == {f"{family}.{ending}" for family in families() for ending in endings}
    for arch in archs.split(";"):
        assert plan.count(f"-arch=sm_{arch} ") == plan.count(f"-arch=compute_{arch} ") == len(families())


def test_names_are_those_that_the_package_looks_for(images_for, tmp_path):
    listed, _ = images_for("80;90a;100f")
    for name in listed:
        (tmp_path / name).touch()
    found = shipped(tmp_path)
    assert {image.path.name for image in found} == listed
    assert {image.family for image in found} == families()
    assert {(i.arch, i.is_ptx, i.exact) for i in found} == {
        (80, False, False), (80, True, False), (90, False, True), (100, False, True),
    }  # fmt: skip


def test_image_is_compiled_again_when_a_header_changed_and_only_then(support, tools, tmp_path):
    nvcc = support.find_nvcc()
    if nvcc is None:
        pytest.skip("needs nvcc")
    (tmp_path / "headers").mkdir()
    header = tmp_path / "headers" / "value.cuh"
    header.write_text("constexpr int value = 17;\n")
    (tmp_path / "small.cu").write_text(
        '#include "value.cuh"\nextern "C" __global__ void small(int* p) { *p = value; }\n'
    )
    build = configured(tools, tmp_path, SMALL, BBS_NVCC=nvcc)

    def made() -> str:
        return subprocess.run([tools[1], "-C", build], check=True, capture_output=True, text=True).stdout

    assert "Machine code of small for sm_80" in made()
    assert (build / "small.sm_80.cubin").read_bytes().startswith(b"\x7fELF")
    assert "no work to do" in made()
    header.write_text("constexpr int value = 4711;\n")
    assert "Machine code of small for sm_80" in made()
    assert "4711" in (build / "small.compute_80.ptx").read_text()
    assert "no work to do" in made()
