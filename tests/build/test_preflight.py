"""tools/preflight.sh: what it looks for, and the one line it prints for each thing that is missing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "preflight.sh"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")

FAKE_PYTHON = """#!/bin/sh
case "$2" in
  *'print('*) echo 3.9 ;;
  *'{failing}'*) exit 1 ;;
esac
"""


@pytest.fixture
def preflight(tmp_path):
    """Runs the script with a PATH of the named empty programs; returns (exit status, lines on stderr)."""

    def run(python, *programs, **environment):
        for name in programs:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        shell = shutil.which("sh")
        finished = subprocess.run(
            [shell, str(SCRIPT), str(python)],
            env={"PATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
        )
        return finished.returncode, finished.stderr.splitlines()

    return run


@pytest.fixture
def python_without(tmp_path):
    """A stand-in for python whose check that mentions a given text fails."""

    def make(failing):
        path = tmp_path / "fake-python"
        path.write_text(FAKE_PYTHON.format(failing=failing))
        path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize("compiler", ["c++", "g++", "clang++"])
def test_all_there(preflight, python_without, compiler):
    assert preflight(python_without("nothing"), compiler) == (0, [])


def test_no_python(preflight):
    status, lines = preflight("no-such-python", "g++")
    assert status == 1
    assert lines == [
        "bbs-kernels: no-such-python not found: install Python 3.10 or later, or name one with PYTHON=..."
    ]


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        ("version_info <", "is Python 3.9, 3.10 or later is needed"),
        ("ensurepip", "apt-get install python3-venv"),
        ("Python.h", "apt-get install python3-dev"),
    ],
)
def test_python_lacks_something(preflight, python_without, failing, words):
    status, lines = preflight(python_without(failing), "g++")
    assert status == 1
    assert len(lines) == 1
    assert words in lines[0]


def test_no_compiler(preflight, python_without):
    status, lines = preflight(python_without("nothing"))
    assert status == 1
    assert len(lines) == 1
    assert "apt-get install g++" in lines[0]


def test_cxx_may_carry_options(preflight, python_without):
    assert preflight(python_without("nothing"), "ccache", CXX="ccache g++") == (0, [])
    status, lines = preflight(python_without("nothing"), "g++", CXX="no-such-compiler -O2")
    assert status == 1
    assert "no-such-compiler" in lines[0]


def test_this_machine(preflight):
    """The real interpreter that runs these tests passes every check but, with this PATH, the compiler's."""
    _, lines = preflight(sys.executable)
    assert all("venv" not in line and "Python 3" not in line for line in lines)
