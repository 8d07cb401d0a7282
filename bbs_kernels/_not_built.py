"""What to do about a folder of this package without compiled libraries; needs neither torch nor the rest of it.

A checkout holds such a folder, and Python looks into the current folder first: there it hides an installed package.
The source is never run with the libraries of another build, whose ops may have other arguments.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

LIBRARY = "libbbs_cpu.so"


def installed_folder(hiding: Path) -> Path | None:
    """Return the folder of the installed package that the folder `hiding` hides, None where there is none."""
    places = [place for place in sys.path if Path(place).resolve() != hiding.parent]
    found = PathFinder.find_spec(hiding.name, places)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).resolve().parent
    return folder if (folder / LIBRARY).exists() else None


def not_built(folder: Path) -> str:
    """Return the line that says what to do about `folder`, which has no compiled libraries."""
    installed = installed_folder(folder)
    if installed is None:
        return (
            f"bbs_kernels: {LIBRARY} is not built in {folder}: run `pip install --no-build-isolation -e .`, or without "
            "`-e` and start Python in another folder"
        )
    return (
        f"bbs_kernels: {folder} is a source folder without compiled libraries and hides the installed package in "
        f"{installed}: start Python in another folder, or run `pip install --no-build-isolation -e .` in this one"
    )
