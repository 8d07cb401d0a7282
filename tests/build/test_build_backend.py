"""A build in an environment whose setuptools is old or missing: a newer one is fetched, or one line says what to do.

Every case is a real virtual environment and a real setuptools: the one that runs these tests, packed as a wheel, is
what pip finds. Nothing is compiled: the metadata of the package is what an old setuptools cannot read.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKEND = ROOT / "tools" / "build_backend.py"
pytestmark = pytest.mark.skipif(not BACKEND.exists(), reason="needs the source tree")

PACKAGES = ("bbs_kernels", "python/basket_softmax", "bench/bbs_bench")
METADATA = "import build_backend; print(build_backend.prepare_metadata_for_build_wheel('.'))"
OLD = "65.5.0"  # what `python -m venv` of Python 3.10 and 3.11 brings


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory):
    """A folder with a wheel of this environment's setuptools, made of its installed files."""
    folder = tmp_path_factory.mktemp("wheels")
    installed = metadata.distribution("setuptools")
    with zipfile.ZipFile(folder / f"setuptools-{installed.version}-py3-none-any.whl", "w") as wheel:
        for path in installed.files:
            if (
                ".." not in path.parts
                and path.suffix != ".pyc"
                and path.name not in ("INSTALLER", "REQUESTED")
            ):
                wheel.write(path.locate(), str(path))
    return folder


@pytest.fixture
def checkout(tmp_path):
    """What the metadata is made from, without anything that was built."""
    tree = tmp_path / "checkout"
    (tree / "tools").mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for script in ("build_backend.py", "build_support.py"):
        shutil.copy(ROOT / "tools" / script, tree / "tools")
    for package in PACKAGES:
        (tree / package).mkdir(parents=True)
        (tree / package / "__init__.py").touch()
    return tree


@pytest.fixture
def environment(tmp_path):
    """A function that makes a virtual environment with a setuptools of the given version (None: without one)."""

    def make(version):
        folder = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        for part in ("setuptools", "_distutils_hack", "distutils-precedence.pth", "pkg_resources"):
            path = packages / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for info in packages.glob("setuptools-*.dist-info"):
            shutil.rmtree(info)
        if version is not None:  # refused by its version, so the rest of it is never read
            info = packages / f"setuptools-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: setuptools\nVersion: {version}\n")
        return folder / "bin" / "python"

    return make


def metadata_of(python, checkout, wheels):
    """Run the hook as pip does, with `wheels` as the only place where packages are."""
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [python, "-c", METADATA],
        cwd=checkout,
        env={**os.environ, **pip, "PYTHONPATH": str(checkout / "tools")},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("version", [OLD, None])
def test_newer_setuptools_is_fetched(environment, checkout, wheel_folder, version):
    python = environment(version)
    finished = metadata_of(python, checkout, wheel_folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"setuptools {version or 'not'} found, installing" in finished.stdout
    written = next(checkout.glob("bbs_kernels-*.dist-info/METADATA")).read_text()
    assert "License-Expression: Apache-2.0" in written
    # The second build finds the first one's, without pip.
    again = metadata_of(python, checkout, checkout / "nothing")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "installing" not in again.stdout


@pytest.mark.parametrize("version", [OLD, None])
def test_nothing_to_fetch_from_is_one_line(environment, checkout, tmp_path, version):
    finished = metadata_of(environment(version), checkout, tmp_path / "nothing")
    assert finished.returncode == 1
    ours = [line for line in finished.stderr.splitlines() if line.startswith("bbs-kernels: ")]
    assert finished.stderr.splitlines()[-1:] == ours
    assert f"found {version or 'none'}" in ours[0]
    assert "`pip install 'setuptools>=77.0.3'`" in ours[0]
    assert "Traceback" not in finished.stderr


def test_pyproject_asks_for_the_same_version():
    assert "setuptools>=77.0.3" in (ROOT / "pyproject.toml").read_text()
    assert "NEEDED = (77, 0, 3)" in BACKEND.read_text()
