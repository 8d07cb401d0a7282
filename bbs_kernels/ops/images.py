"""Find the image of a CUDA kernel: a file of the package, made by nvcc, or a compilation by NVRTC at first use."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from pathlib import Path
from typing import NamedTuple

from .. import _core  # type: ignore[attr-defined]  # compiled
from . import nvrtc

FOLDER = Path(__file__).resolve().parent.parent / "images"
_NAME = re.compile(r"(?P<family>\w+)\.(?P<kind>sm|compute)_(?P<arch>\d+)(?P<exact>[af]?)\.(cubin|ptx)")
_LEAST_ARCH = 80


class Image(NamedTuple):
    """An image file. `family`: see `_core.cuda_family`; `arch`: 90 for 9.0."""

    path: Path
    family: str
    is_ptx: bool
    arch: int
    exact: bool  # made for this architecture alone, as sm_90a

    def runs_on(self, arch: int) -> bool:
        """Return whether a device of this compute capability can load it."""
        if self.exact:
            return self.arch == arch
        if self.is_ptx:
            return self.arch <= arch
        return self.arch <= arch and self.arch // 10 == arch // 10


def shipped(folder: Path | None = None) -> list[Image]:
    """Return the images of the package, by name; none in a build without nvcc."""
    found = ((path, _NAME.fullmatch(path.name)) for path in sorted((folder or FOLDER).glob("*.*")))
    return [
        Image(path, m["family"], m["kind"] == "compute", int(m["arch"]), bool(m["exact"]))
        for path, m in found
        if m
    ]


def choose(symbol: str, arch: int) -> Image | None:
    """Return the best shipped image of a kernel for a device: machine code before PTX, the newest that runs."""
    family = _core.cuda_family(symbol)
    fits = [image for image in shipped() if image.family == family and image.runs_on(arch)]
    return max(fits, key=lambda image: (not image.is_ptx, image.exact, image.arch), default=None)


def image_of(symbol: str, arch: int) -> bytes:
    """Return the image that holds a kernel: machine code, or PTX ending with a zero byte.

    Raises:
        RuntimeError: in one line, why there is none and what to do.
    """
    return _content(choose(symbol, arch), symbol, arch)


def _content(image: Image | None, symbol: str, arch: int) -> bytes:
    """Return what `choose` found, or the kernel compiled where it found nothing."""
    if arch < _LEAST_ARCH:
        raise RuntimeError(
            f"bbs_kernels: expected a GPU of compute capability 8.0 or later, got {arch // 10}.{arch % 10}"
        )
    if image is not None:
        return _read(image)
    try:
        return nvrtc.compile_kernel(symbol, arch)
    except ImportError as error:
        targets = sorted({f"{'compute' if i.is_ptx else 'sm'}_{i.arch}" for i in shipped()})
        built = f"images for {', '.join(targets)}" if targets else "no images of CUDA kernels"
        raise RuntimeError(
            f"bbs_kernels: this build has {built}, and the GPU is sm_{arch}; {error}"
        ) from error


def _read(image: Image) -> bytes:
    content = image.path.read_bytes()
    if image.is_ptx:
        content += b"\0"
    elif not content.startswith(b"\x7fELF"):
        raise RuntimeError(
            f"bbs_kernels: {image.path} is no image of CUDA kernels: install bbs-kernels again"
        )
    return content


class _Kept:
    """Images that were handed out, for as long as the process lives; the same address for the same file."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.buffers: dict[Path | tuple[str, int], ctypes.Array] = {}

    def address_of(self, symbol: str, arch: int) -> int:
        image = choose(symbol, arch)
        key = image.path if image else (symbol, arch)
        with self.lock:
            kept = self.buffers.get(key)
        if kept is None:
            content = _content(image, symbol, arch)  # may compile: no lock is held
            made = ctypes.create_string_buffer(content, len(content))
            with self.lock:
                kept = self.buffers.setdefault(key, made)
        return ctypes.addressof(kept)


_kept = _Kept()
os.register_at_fork(after_in_child=lambda: setattr(_kept, "lock", threading.Lock()))

_PROVIDER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
    ctypes.c_size_t,
)


@_PROVIDER
def provider(symbol: bytes, arch: int, image, error: int, error_bytes: int) -> int:
    """Answer the op library: `ImageProvider` of csrc/cuda/runtime/launch.h. An exception would be lost on its way."""
    try:
        image[0] = _kept.address_of(symbol.decode(), arch)
    except BaseException as failure:
        text = str(failure).encode()[: error_bytes - 1] + b"\0"
        ctypes.memmove(error, text, len(text))
        return 1
    return 0
