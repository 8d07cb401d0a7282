"""Messages say "NAME: expected X, got Y", in Python and in C++."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "bbs_kernels",
    "python",
    "bench",
    "csrc",
    "tools/build_support.py",
    "tools/build_glyphs.py",
    "docs",
)
OTHER_FORM = re.compile(
    r"\ballowed (?:here |there |with it )?(?:is|are)\b|\bmust (?:be|lie)\b.*\bgot\b", re.DOTALL
)
pytestmark = pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="needs the source tree")


def sources(*suffixes: str) -> Iterator[Path]:
    for folder in FOLDERS:
        path = ROOT / folder
        for file in (path,) if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in suffixes and "include" not in file.relative_to(ROOT).parts:
                yield file


def messages_of_python(file: Path) -> Iterator[tuple[int, str]]:
    """Texts inside a `raise`, or what a check hands back as its message: every string that is no docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values}
    for node in ast.walk(tree):
        if id(node) in alone | inner:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def messages_of_cpp(file: Path) -> Iterator[tuple[int, str]]:
    """Texts of a line, outside comments."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        code = line.split("//")[0]
        yield number, " ".join(re.findall(r'"((?:[^"\\\\]|\\\\.)*)"', code))


def test_no_message_has_another_form() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for suffixes, messages in (
            ((".py",), messages_of_python),
            ((".h", ".cpp", ".cu", ".cuh", ".inl"), messages_of_cpp),
        )
        for file in sources(*suffixes)
        for line, text in messages(file)
        if OTHER_FORM.search(text)
    ]
    assert not found, "\n".join(found)
