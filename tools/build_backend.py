"""The build backend: that of setuptools, fetched into build/ where the environment's setuptools is too old or missing.

A new virtual environment of Python 3.10 or 3.11 has setuptools 65, which knows no SPDX licence and makes no wheel by
itself; one of Python 3.12 or later has none. Not every torch brings a newer one, and an isolated build, which would,
cannot see the torch that is installed. CMake and ninja are fetched in the same way (build_support.py).
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

NEEDED = (77, 0, 3)  # the first with `license = "Apache-2.0"`; pyproject.toml asks for the same
FETCHED = Path(__file__).resolve().parent.parent / "build" / "tools" / "setuptools"


def installed_version() -> str | None:
    """Return the version of the setuptools that would be imported, or None."""
    try:
        return metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        return None


def is_enough(version: str | None) -> bool:
    """Return whether `version` builds this package."""
    numbers = [int(part) for part in (version or "").split(".")[:3] if part.isdecimal()]
    return tuple(numbers) >= NEEDED


def provide_setuptools() -> None:
    """Put a setuptools that is new enough first on sys.path, fetched with pip where there is none."""
    if is_enough(installed_version()):
        return
    sys.path.insert(0, str(FETCHED))
    if is_enough(installed_version()):  # by an earlier build
        return
    found = installed_version()
    wanted = f"setuptools>={'.'.join(map(str, NEEDED))}"
    print(f"bbs-kernels: setuptools {found or 'not'} found, installing {wanted} into {FETCHED}", flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--target",
        str(FETCHED),
        wanted,
    ]
    if subprocess.run(command).returncode != 0 or not is_enough(installed_version()):
        sys.exit(
            f"bbs-kernels: {wanted} is needed to build, found {found or 'none'}, and it could not be fetched: run "
            f"`pip install '{wanted}'`, then `pip install --no-build-isolation .`"
        )


provide_setuptools()

from setuptools.build_meta import *  # noqa: E402, F403  (the hooks of PEP 517 and 660)
