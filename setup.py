"""Builds the shared objects with CMake and ninja. Metadata needs nothing; building needs torch in this environment."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from build_support import build_libraries  # noqa: E402  (needs the path above)


class CMakeBuild(build_ext):
    """Replaces the compile step: one CMake project, installed into the bbs_kernels package."""

    def run(self) -> None:
        package = Path(self.get_ext_fullpath("bbs_kernels._core")).resolve().parent
        build_libraries(ROOT, package, version=self.distribution.get_version())

    def get_outputs(self) -> list[str]:
        package = Path(self.get_ext_fullpath("bbs_kernels._core")).parent
        return [str(p) for p in sorted(package.glob("*.so"))]


setup(
    ext_modules=[Extension("bbs_kernels._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
