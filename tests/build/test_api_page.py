"""docs/api.md has every public name: a function or class that cannot be looked up is as good as absent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import basket_softmax as bs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")


def documented() -> dict[str, Any]:
    """{path: object} of every `::: path` line."""
    paths = re.findall(r"^::: (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    twice = sorted({path for path in paths if paths.count(path) > 1})
    assert not twice, f"docs/api.md has {twice} twice"
    found = {}
    for path in paths:
        module, _, name = path.rpartition(".")
        found[path] = getattr(import_module(module), name)
    return found


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """(dotted name, object) of everything in `__all__`, modules opened in turn."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield from public(value)
        else:
            yield f"{module.__name__}.{name}", value


def test_every_public_name_is_on_the_page() -> None:
    shown = list(documented().values())
    missing = [name for name, value in public(bs) if not any(value is other for other in shown)]
    assert not missing, f"docs/api.md lacks {missing}"


def test_everything_on_the_page_has_a_docstring() -> None:
    assert not [path for path, value in documented().items() if not (value.__doc__ or "").strip()]
