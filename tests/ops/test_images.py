"""Which image a kernel is taken from, and how the op library is answered."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from bbs_kernels import _core
from bbs_kernels.ops import images, nvrtc

SYMBOL = "bbs_order_rows"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images of the package, none to begin with; and no compiler."""
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    monkeypatch.setattr(images, "_kept", images._Kept())

    def missing() -> None:
        raise ImportError("compiling it at first use needs CuPy")

    monkeypatch.setattr(nvrtc, "_nvrtc", missing)
    return tmp_path


def make(folder: Path, *names: str) -> None:
    for name in names:
        content = f"// {name}" if name.endswith("ptx") else f"\x7fELF {name}"
        (folder / f"common.{name}").write_text(content)


def ask(symbol: str, arch: int, room: int = 4096) -> tuple[int, int | None, str]:
    """Status, address and error, as the op library gets them."""
    image, error = ctypes.c_void_p(), ctypes.create_string_buffer(room)
    status = images.provider(symbol.encode(), arch, ctypes.pointer(image), ctypes.addressof(error), room)
    return status, image.value, error.value.decode(errors="replace")


@pytest.mark.parametrize(
    ("arch", "chosen"),
    [
        (80, "sm_80.cubin"),
        (86, "sm_86.cubin"),
        (89, "sm_86.cubin"),  # an older one of the same major version
        (90, "sm_90a.cubin"),  # made for this one alone
        (100, "compute_90.ptx"),  # another major version: the driver compiles
        (103, "compute_90.ptx"),
        (120, "sm_120.cubin"),
    ],
)
def test_the_best_image_is_chosen(folder: Path, arch: int, chosen: str) -> None:
    names = (
        "sm_80.cubin", "sm_86.cubin", "sm_90.cubin", "sm_90a.cubin", "sm_120.cubin", "compute_80.ptx", "compute_90.ptx",
    )  # fmt: skip
    make(folder, *names)
    (folder / "common.sm_90.cubin.tmp").touch()
    (folder / "forward_bf16.sm_89.cubin").touch()  # of another family
    assert images.choose(SYMBOL, arch).path.name == f"common.{chosen}"


@pytest.mark.parametrize(
    ("name", "arch"), [("sm_90.cubin", 86), ("sm_90a.cubin", 100), ("compute_90.ptx", 89)]
)
def test_an_image_of_a_later_device_is_not_chosen(folder: Path, name: str, arch: int) -> None:
    make(folder, name)
    assert images.choose(SYMBOL, arch) is None


def test_content(folder: Path) -> None:
    make(folder, "sm_80.cubin", "compute_80.ptx")
    assert images.image_of(SYMBOL, 80) == b"\x7fELF sm_80.cubin"
    assert images.image_of(SYMBOL, 90) == b"// compute_80.ptx\0"


def test_a_file_that_is_no_image_is_told(folder: Path) -> None:
    (folder / "common.sm_80.cubin").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"common\.sm_80\.cubin is no image .*: install bbs-kernels again"):
        images.image_of(SYMBOL, 80)


@pytest.mark.parametrize(
    ("names", "has"),
    [
        ((), "no images of CUDA kernels"),
        (("sm_80.cubin", "compute_120.ptx"), "images for compute_120, sm_80"),
    ],
)
def test_no_image_and_no_compiler_is_one_line(folder: Path, names: tuple[str, ...], has: str) -> None:
    make(folder, *names)
    with pytest.raises(RuntimeError) as found:
        images.image_of(SYMBOL, 90)
    text = f"bbs_kernels: this build has {has}, and the GPU is sm_90; compiling it at first use needs CuPy"
    assert str(found.value) == text


def test_a_gpu_that_is_too_old() -> None:
    with pytest.raises(RuntimeError, match=r"expected a GPU of compute capability 8\.0 or later, got 7\.5"):
        images.image_of(SYMBOL, 75)


def test_the_library_gets_one_address_for_one_file(folder: Path) -> None:
    """By the address it knows that it has loaded the image."""
    make(folder, "sm_80.cubin", "sm_90.cubin")
    status, address, _ = ask(SYMBOL, 80)
    assert status == 0
    assert ctypes.string_at(address) == b"\x7fELF sm_80.cubin"
    assert ask("bbs_merge_splits", 86) == (0, address, "")
    assert ask(SYMBOL, 90)[1] != address


@pytest.mark.parametrize("room", [4096, 20])
def test_the_library_gets_the_error(room: int) -> None:
    status, address, error = ask(SYMBOL, 75, room)
    assert (status, address) == (1, None)
    assert error == "bbs_kernels: expected a GPU of compute capability 8.0 or later, got 7.5"[: room - 1]
    assert "expected one of cuda_kernels(), got bbs_no_such_kernel" in ask("bbs_no_such_kernel", 80)[2]


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent(folder: Path) -> None:
    make(folder, "sm_80.cubin")
    with images._kept.lock:  # as another thread may, at the moment of a fork
        child = os.fork()
        if child == 0:
            free = images._kept.lock.acquire(timeout=10)
            os._exit(0 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_kernel_has_a_family_that_the_build_makes() -> None:
    """images.cmake names them; a family that it does not know would be in no image."""
    families = {"common"} | {
        f"{way}_{types}"
        for way in ("forward", "backward")
        for types in ("bf16", "bf16_fp32w", "fp16", "fp16_fp32w", "tf32", "fp32")
    }
    kernels = _core.cuda_kernels()
    assert {kernel["family"] for kernel in kernels} == families
    assert all(_core.cuda_family(kernel["symbol"]) == kernel["family"] for kernel in kernels)
    assert len({kernel["symbol"] for kernel in kernels}) == len(kernels)
