"""Which folders are packages: never what a build puts beside the sources, which the next build may take away again."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the source tree")


def test_what_a_build_makes_is_no_package(tmp_path):
    """A build without CUDA removes the images of an earlier one, and an editable install ended with an error."""
    tomllib = pytest.importorskip("tomllib")
    setuptools = pytest.importorskip("setuptools")
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    for folder in ("bbs_kernels/ops", "bbs_kernels/images", "bbs_kernels/include/common"):
        (tmp_path / folder).mkdir(parents=True)
    found = setuptools.find_namespace_packages(tmp_path, include=find["include"], exclude=find["exclude"])
    assert sorted(found) == ["bbs_kernels", "bbs_kernels.ops"]
