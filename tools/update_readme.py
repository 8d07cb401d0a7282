"""Fills the demo's table in README.md from results that a command wrote, so that no number is typed by hand.

    bbs demo --output demo-output && python tools/update_readme.py demo-output
    bbs demo --regime style --output demo-style && python tools/update_readme.py demo-style --regime style

Copies results.json, results.csv and results.png into docs/results/REGIME (from where the documentation takes
its tables) and rewrites the README between `<!-- demo-table -->` and `<!-- /demo-table -->`. Without a folder
only the README is rewritten, from what is committed; --check only says whether that would change it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from demo_table import read_rows, table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
FILES = ("results.json", "results.csv", "results.png")
SPACE = re.compile(r"(?<=<!-- demo-table -->\n).*?(?=<!-- /demo-table -->)", re.DOTALL)


def filled(readme: str, new_table: str) -> str:
    """`readme` with the marked space holding `new_table`.

    Raises:
        ValueError: the page does not have the marks exactly once.
    """
    text, count = SPACE.subn(lambda _: f"\n{new_table}\n\n", readme)
    if count != 1:
        raise ValueError(f"the README has {count} marked spaces for the demo's table, expected 1")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="what `bbs demo --output` wrote")
    parser.add_argument("--regime", choices=["many", "style"], default="many")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.folder is not None:
        target = RESULTS / options.regime
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(options.folder / name, target / name)
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before, table(read_rows(RESULTS / "many")))
    if options.check:
        sys.exit("README.md does not show docs/results/many" if before != after else 0)
    path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
