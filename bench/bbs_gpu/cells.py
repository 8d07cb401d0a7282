"""Figures as the cells of a page, and tables and blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

NOTHING = "not measured"


def number(value: Any, form: str) -> str:
    """A figure in that form; text as it is."""
    return (
        NOTHING if value is None else format(value, form) if isinstance(value, (int, float)) else str(value)
    )


def seconds(value: Any) -> str:
    return number(value, ".1f")


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{1e3 * value:.3f}"


def rate(value: float | None, unit: float) -> str:
    return NOTHING if value is None else f"{value / unit:,.1f}"


def escaped(text: Any) -> str:
    """Text that keeps its place in a table's cell."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def code(title: str, lines: Sequence[str]) -> str:
    shown = [line.replace("```", "'''") for text in lines for line in text.splitlines()]
    return "\n".join([f"{title}:\n", "```text", *shown, "```"])


def table(head: str, align: str, rows: Iterable[Sequence[Any]]) -> str:
    """`align`: a letter for each column, `r` to the right, `:` to the left."""
    rule = " | ".join("--:" if letter == "r" else ":--" for letter in align)
    lines = [head, rule, *(" | ".join(str(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
