"""Fetches Debian font packages, unpacks them without installing, and checks their licence.

The machine-readable copyright file of each package (DEP-5) says under which licence `Files: *` stands. Only the SIL Open
Font License is accepted, alone or as one of several to choose from; anything else stops the build.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_OFL = re.compile(r"\b(OFL-1\.1|SIL-1\.1|Open-Font-License)\b")
_FONT_FILES = re.compile(r"^(\*|\*\.ttf)$")


@dataclass(frozen=True)
class Package:
    """An unpacked package: where it lies, its version, its licence field and its copyright holders."""

    name: str
    version: str
    root: Path
    licence: str
    holders: str


def fetch(names: list[str], cache: Path) -> dict[str, Package]:
    """Downloads (once) and unpacks the packages below `cache`. Needs apt-get and dpkg-deb; no root, no installation."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [n for n in names if not list(cache.glob(f"{n}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", "-qq", *missing], cwd=cache, check=True)
    return {n: _unpack(n, cache) for n in names}


def _unpack(name: str, cache: Path) -> Package:
    archives = sorted(cache.glob(f"{name}_*.deb"))
    if len(archives) != 1:
        raise SystemExit(f"{cache}: expected one version of {name}, found {[a.name for a in archives]}")
    root = cache / name
    if not root.exists():
        subprocess.run(["dpkg-deb", "-x", archives[0].name, name], cwd=cache, check=True)
    field = subprocess.run(
        ["dpkg-deb", "-f", archives[0].name, "Version"], cwd=cache, check=True, capture_output=True, text=True
    )
    licence, holders = read_copyright((root / "usr/share/doc" / name / "copyright").read_text(encoding="utf-8"), name)
    return Package(name, field.stdout.strip(), root, licence, holders)


def read_copyright(text: str, name: str) -> tuple[str, str]:
    """(licence, copyright holders) of the font files in a DEP-5 copyright file; stops unless the OFL can be chosen."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        if not _FONT_FILES.match(fields.get("files", "")):
            continue
        licence = fields.get("license", "").splitlines()[0].strip()
        if not _OFL.search(licence) or " and " in licence:
            raise SystemExit(f"{name}: its fonts are under '{licence}', only the SIL Open Font License is accepted")
        return licence, " ".join(fields.get("copyright", "").split())
    raise SystemExit(f"{name}: no 'Files: *' paragraph in its copyright file")


def _fields(paragraph: str) -> dict[str, str]:
    out: dict[str, str] = {}
    key = ""
    for line in paragraph.splitlines():
        head = re.match(r"^([A-Za-z-]+):\s*(.*)$", line)
        if head:
            key = head.group(1).lower()
            out[key] = head.group(2)
        elif key and line[:1].isspace():
            out[key] += "\n" + line.strip()
    return out
