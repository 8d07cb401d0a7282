"""Prints the tagged code blocks of a Markdown file, so that CI runs what the README tells people to run.

A block is tagged by an HTML comment on the line above its fence (`<!-- ci: test -->`), invisible to readers.
Where TORCH is set, `pip install torch` becomes `pip install "$TORCH"`: the one line in which CI differs.

    python tools/readme_commands.py test              # the blocks tagged `test`, in order
    python tools/readme_commands.py --list            # every tag
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
TAGGED_BLOCK = re.compile(
    r"^<!-- ci: (?P<tag>[a-z-]+) -->\n```[a-z]+\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


def tagged_blocks(text: str) -> list[tuple[str, str]]:
    """(tag, body) of every tagged block, in the order of the page."""
    return [(match["tag"], match["body"]) for match in TAGGED_BLOCK.finditer(text)]


def with_torch(body: str, requirement: str | None) -> str:
    """`body` with the requirement `torch` of `pip install torch` replaced, when one is given."""
    if not requirement:
        return body
    return re.sub(r"pip install torch$", f'pip install "{requirement}"', body, flags=re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tag", nargs="?")
    parser.add_argument("--list", action="store_true", help="print the tags and stop")
    parser.add_argument("--file", type=Path, default=README)
    options = parser.parse_args()
    blocks = tagged_blocks(options.file.read_text(encoding="utf-8"))
    if options.list:
        print("\n".join(dict.fromkeys(tag for tag, _ in blocks)))
        return
    chosen = [body for tag, body in blocks if tag == options.tag]
    if not chosen:
        sys.exit(f"{options.file.name} has no block tagged {options.tag!r}")
    print(with_torch("\n".join(chosen), os.environ.get("TORCH")), end="")


if __name__ == "__main__":
    main()
