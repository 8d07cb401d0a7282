"""A source folder that hides the installed package is refused in one line that names both folders.

The folders are copies of this package: one with its compiled libraries, as pip installs it, one without, as a checkout
has it. Each case is a process of its own that starts in the checkout.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import basket_softmax
import bbs_kernels

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")
SOURCE_ONLY = shutil.ignore_patterns("*.so", "__pycache__", "include")


@pytest.fixture
def installed(tmp_path):
    """A folder of packages with the compiled libraries."""
    folder = tmp_path / "site"
    for package in (bbs_kernels, basket_softmax):
        shutil.copytree(Path(package.__file__).parent, folder / package.__name__)
    return folder


@pytest.fixture
def checkout(tmp_path):
    """A checkout: the source of bbs_kernels at its top, without libraries, and one test."""
    folder = tmp_path / "checkout"
    shutil.copytree(Path(bbs_kernels.__file__).parent, folder / "bbs_kernels", ignore=SOURCE_ONLY)
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    (folder / "tests" / "test_one.py").write_text("def test_one():\n    import basket_softmax\n")
    return folder


def python(folder, packages, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_import_names_both_folders_and_what_to_do(installed, checkout):
    finished = python(checkout, installed, "-c", "import basket_softmax")
    line = finished.stderr.splitlines()[-1]
    assert finished.returncode == 1
    assert line.startswith("ImportError: bbs_kernels: ")
    assert str(checkout / "bbs_kernels") in line
    assert str(installed / "bbs_kernels") in line
    assert "start Python in another folder" in line
    assert "`pip install --no-build-isolation -e .`" in line


def test_pytest_stops_with_the_same_line(installed, checkout):
    finished = python(checkout, installed, "-m", "pytest", "-p", "no:cacheprovider")
    text = finished.stdout + finished.stderr
    assert finished.returncode == 4, text
    ours = [line for line in text.splitlines() if "bbs_kernels: " in line]
    assert len(ours) == 1, text
    assert str(checkout / "bbs_kernels") in ours[0]
    assert str(installed / "bbs_kernels") in ours[0]
    assert "Traceback" not in text


def test_elsewhere_the_installed_package_is_found(installed, checkout, tmp_path):
    finished = python(
        tmp_path, installed, "-c", "import basket_softmax, bbs_kernels; print(bbs_kernels.__file__)"
    )
    assert finished.stdout.strip() == str(installed / "bbs_kernels" / "__init__.py"), finished.stderr


def test_built_checkout_runs_its_tests(installed, checkout):
    for library in (installed / "bbs_kernels").glob("*.so"):
        shutil.copy(library, checkout / "bbs_kernels")
    finished = python(checkout, installed, "-m", "pytest", "-p", "no:cacheprovider")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_nothing_installed_is_said(checkout, tmp_path):
    """`-S` leaves out what this environment has installed; the file needs nothing of it."""
    tell = "import runpy, pathlib; run = runpy.run_path('bbs_kernels/_not_built.py'); "
    finished = python(
        checkout,
        tmp_path / "nothing",
        "-S",
        "-c",
        tell + "print(run['not_built'](pathlib.Path('bbs_kernels').resolve()))",
    )
    assert f"libbbs_cpu.so is not built in {checkout / 'bbs_kernels'}" in finished.stdout
    assert "hides" not in finished.stdout
