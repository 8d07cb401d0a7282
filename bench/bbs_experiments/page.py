"""Tables inside a documentation page: what stands between `<!-- results: NAME -->` and `<!-- /results -->` is made
from the results, so that no figure is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def renew(path: Path, content: Mapping[str, Callable[[], str]]) -> None:
    """Fill every block of the page.

    Raises:
        ValueError: a block that is not in `content`, or the other way round.
    """
    text = path.read_text(encoding="utf-8")
    names = [match[2] for match in BLOCK.finditer(text)]
    if sorted(names) != sorted(content):
        raise ValueError(f"{path}: expected the blocks {sorted(content)}, each once, got {sorted(names)}")
    path.write_text(
        BLOCK.sub(lambda match: f"{match[1]}\n{content[match[2]]()}\n\n{match[3]}", text), encoding="utf-8"
    )
