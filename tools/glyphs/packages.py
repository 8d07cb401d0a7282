"""Debian packages: fetched with apt, unpacked without installing, their licence read and checked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

OPEN_FONT_LICENCE = re.compile(r"^License:.*\b(OFL-1\.1|SIL-1\.1|Open-Font-License)\b", re.MULTILINE)


def fetch(package: str, folder: Path) -> Path:
    """Download and unpack `package` below `folder`; returns the unpacked tree."""
    tree = folder / package
    if not tree.exists():
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, tree], check=True)
    return tree


def version(package: str, folder: Path) -> str:
    (archive,) = folder.glob(f"{package}_*.deb")
    return subprocess.run(
        ["dpkg-deb", "-f", archive, "Version"], check=True, capture_output=True, text=True
    ).stdout.strip()


def check_licence(package: str, tree: Path) -> str:
    """The licence's name, or an error: only the SIL Open Font License may enter the data file."""
    text = (tree / "usr/share/doc" / package / "copyright").read_text(encoding="utf-8")
    if OPEN_FONT_LICENCE.search(text) is None:
        raise RuntimeError(f"{package}: its copyright file names no SIL Open Font License")
    return "OFL-1.1"


def font_file(tree: Path, name: str) -> Path:
    (path,) = tree.rglob(name)
    return path
