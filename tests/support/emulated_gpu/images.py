"""The PTX of each kernel: cut from an image of the build where one of the architecture is there, else made by nvcc."""

from __future__ import annotations

import functools
import hashlib

import ptxvm

from bbs_kernels import _core
from bbs_kernels.ops import images

from .library import CACHE, CSRC

# Of a device whose kernels the build has compiled to PTX, or that of the oldest one: nvcc then makes each of them here.
BUILT_ARCH = 90 if any(image.is_ptx and image.arch == 90 for image in images.shipped()) else 80


@functools.cache
def kernel_digest() -> str:
    """Changes with any header of the kernels; those of the host's folders, runtime and plan, are none."""
    files = sorted(
        p for name in ("common", "cuda") for p in (CSRC / name).glob("*") if p.suffix in (".h", ".cuh")
    )
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in files)).hexdigest()[:16]


def compiled(source: str, arch: str) -> str:
    """PTX of a CUDA source with the kernels' headers, for "sm_80"; compiled once."""
    return ptxvm.compile_ptx(
        source, arch, [CSRC / "cuda"], [f"BBS_SOURCES={kernel_digest()}"], cache_dir=CACHE
    )


@functools.cache
def ptx_of(symbol: str, arch: str) -> str:
    """PTX of one kernel alone."""
    return compiled(_core.cuda_source([symbol]), arch)


@functools.cache
def shipped_ptx(symbol: str, arch: int) -> str | None:
    """The same from the image that the build has, or None."""
    family = _core.cuda_family(symbol)
    for image in images.shipped():
        if image.is_ptx and image.arch == arch and image.family == family:
            return kernel_alone(image.path.read_text(), symbol)
    return None


def kernel_alone(text: str, symbol: str) -> str:
    """A module without its other kernels, so that it is parsed in no time."""
    kept: list[str] = []
    found = skipping = False
    for line in text.splitlines():
        if ".entry" in line:
            wanted = f"{symbol}(" in line
            found, skipping = found or wanted, not wanted
        if not skipping:
            kept.append(line)
        if line == "}":
            skipping = False
    assert found, f"no kernel {symbol} in the module"
    return "\n".join(kept)
