"""What a call says where the driver is missing, too old, broken, or refuses the kernels: one line each, from the code
that loads libcuda. In the same process losses on the CPU go on."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bbs_kernels.ops import images

pytestmark = pytest.mark.emulated

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "c++")

# Prints a line of JSON for each call of `settings`: the message, or null where all was launched. The emulated GPU gives
# the tensors and the streams; its driver is taken away, so that the library loads libcuda.
PROGRAM = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
import basket_softmax as bs
from bbs_kernels.ops import images
from support.emulated_gpu import EmulatedGpu

head, x, labels = bs.ArcFaceLoss(7, 8), torch.randn(4, 8), torch.arange(4)
before = head(x, labels)
gpu = EmulatedGpu(80)
gpu.driver.image_of = lambda symbol, arch: b"an image"
providers = {"emulated": gpu._provider, "shipped": images.provider}
sys.modules["cupy_backends"] = None
for settings in json.loads(sys.argv[2]):
    provider = providers[settings.pop("provider", "emulated")]
    os.environ.update(settings)
    with gpu.whole_stack():
        gpu.library.bbs_test_use(
            None, ctypes.addressof(gpu._accelerators[0]), ctypes.cast(provider, ctypes.c_void_p)
        )
        try:
            head(x, labels)
        except RuntimeError as error:
            print(json.dumps(str(error)))
        except AssertionError as error:  # this driver launches nothing, and the emulated GPU sees that
            assert "left bytes of its outputs unwritten" in str(error)
            print(json.dumps(None))
    assert torch.equal(head(x, labels), before), "the CPU fails too"
"""


def messages(libraries: Path, *settings: dict[str, str]) -> list[str | None]:
    """What each call says, in one process, where libcuda.so.1 is what is in a folder."""
    environment = {
        **os.environ, "LD_LIBRARY_PATH": f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ROOT / "tests", json.dumps(settings or ({},))],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fake_driver(folder: Path, *flags: str) -> Path:
    source = ROOT / "tests" / "cpp" / "fake_cuda.cpp"
    subprocess.run([COMPILER, "-shared", "-fPIC", *flags, source, "-o", folder / "libcuda.so.1"], check=True)
    return folder


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="NVIDIA's driver is installed")
def test_no_driver(tmp_path: Path) -> None:
    (message,) = messages(tmp_path)
    assert message is not None
    assert message.startswith(
        "bbs_kernels: a tensor is on CUDA, but NVIDIA's driver cannot be loaded (libcuda.so.1: cannot open"
    )
    assert message.endswith("): install the driver, or move the tensors to the CPU")
    assert "\n" not in message


def test_a_driver_without_libraries_of_kernels(tmp_path: Path) -> None:
    (message,) = messages(fake_driver(tmp_path, "-DNO_LIBRARIES"))
    assert message == (
        "bbs_kernels: NVIDIA's driver is too old, it has no cuLibraryLoadData: expected one of CUDA 12.0 or later, "
        "update the driver"
    )


def test_what_a_driver_answers(tmp_path: Path) -> None:
    """Nothing of a failure is kept: the call after it works."""
    what = "refuses the image of bbs_prepare_rows_fp32_rows for sm_80"
    advice = ": update the driver, or build bbs-kernels on this machine; `python -m bbs_kernels.info` says what this " \
        "build has"  # fmt: skip
    refusals = {
        200: "device kernel image is invalid",
        209: "no kernel image is available for execution on the device",
        222: "the provided PTX was compiled with an unsupported toolchain.",
    }
    got = messages(
        fake_driver(tmp_path),
        {"FAKE_INIT": "100"},
        {"FAKE_INIT": "999"},
        *({"FAKE_INIT": "0", "FAKE_VERSION": "12040", "FAKE_LOAD": str(status)} for status in refusals),
        {"FAKE_LOAD": "700"},
        {"FAKE_LOAD": "0", "FAKE_KERNEL": "500"},
        {"FAKE_KERNEL": "0", "FAKE_LAUNCH": "700"},
        {"FAKE_LAUNCH": "0"},
    )
    assert got == [
        "bbs_kernels: NVIDIA's driver cannot be started: no CUDA-capable device is detected (100)",
        "bbs_kernels: NVIDIA's driver cannot be started: unknown error (999)",
        *(
            f"bbs_kernels: NVIDIA's driver (of CUDA 12.4) {what}: {text} ({status}){advice}"
            for status, text in refusals.items()
        ),
        f"bbs_kernels: NVIDIA's driver (of CUDA 12.4) {what}: an illegal memory access was encountered (700)",
        "bbs_kernels: the image does not hold bbs_prepare_rows_fp32_rows: unknown CUDA error (500)",
        "bbs_kernels: the driver does not launch bbs_prepare_rows_fp32_rows: an illegal memory access was encountered "
        "(700)",
        None,
    ]


def test_no_image_for_the_device(tmp_path: Path) -> None:
    """The answer of the package itself, as the library hands it on."""
    old, *missing = messages(
        fake_driver(tmp_path),
        {"provider": "shipped", "FAKE_ARCH": "70"},
        *([] if images.shipped() else [{"provider": "shipped", "FAKE_ARCH": "90"}]),
    )
    assert old == "bbs_kernels: expected a GPU of compute capability 8.0 or later, got 7.0"
    for message in missing:
        assert message is not None
        assert message.startswith(
            "bbs_kernels: this build has no images of CUDA kernels, and the GPU is sm_90; "
        )
        assert "pip install bbs-kernels[cupy]" in message
        assert "\n" not in message
