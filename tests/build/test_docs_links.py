"""Broken links: the site's settings make `make docs` fail, and the pages outside the site are checked here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").exists(), reason="needs the source tree")
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tools/ptxvm/README.md"]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("[x](nosuch.md)", "target is not found among documentation files"),
        ("[x](other.md#nosuch)", "does not contain an anchor"),
        ("[x](#nosuch)", "no such anchor on this page"),
        ("[x](/other.md)", "contains an absolute link"),
        ("[x](other.md#here)", ""),
    ],
)
def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path, link: str, message: str) -> None:
    pytest.importorskip("mkdocs")
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Home\n\n{link}\n", encoding="utf-8")
    (pages / "other.md").write_text("# Other\n\n## Here\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    validation = re.search(r"^validation:\n(?:  .*\n)+", settings, re.MULTILINE)
    assert validation is not None
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{validation[0]}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode == 0) == (not message), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("page", OUTSIDE)
def test_relative_links_of_pages_outside_the_site(page: str) -> None:
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"{page} is not in this tree")
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not name:
            continue
        found = (path.parent / name).resolve()
        assert found.exists(), f"{page}: {target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, f"{page}: {target} has no such heading"


def _slug(heading: str) -> str:
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
