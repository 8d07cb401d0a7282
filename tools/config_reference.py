"""The keys of `bbs train` as a Markdown table, read from the config's own models.

python tools/config_reference.py            prints it
python tools/config_reference.py --write    puts it into docs/train.md, between its two markers
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from basket_softmax.training.choices import GUARDS, MARGINS, RULES
from basket_softmax.training.config import Config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "train.md"
BEGIN, END = "<!-- config-reference -->\n", "<!-- /config-reference -->"
CHOICES = {"margin", "mining"}  # whose arguments have a table of their own


def reference() -> str:
    """The tables."""
    lines = ["| key | default | |", "| :-- | :-- | :-- |", *_rows(Config, "")]
    for title, sections in (("margin", MARGINS), ("rule", RULES), ("guard", GUARDS)):
        lines += ["", f"| {title} | arguments and their defaults |", "| :-- | :-- |"]
        for name, section in sections.items():
            arguments = [
                f"`{key}`" if field.is_required() else f"`{key}: {_value(field.get_default())}`"
                for key, field in section.model_fields.items()
                if key != "name"
            ]
            lines.append(f"| `{name}` | {', '.join(arguments) or '–'} |")
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, field in model.model_fields.items():
        text = " ".join((field.description or "").split())
        inner = [] if key in CHOICES else list(_models(field.annotation))
        mapping = "dict[" in str(field.annotation)
        path = f"{prefix}{key}.NAME" if mapping and inner else f"{prefix}{key}"
        if not inner:
            yield f"| `{path}` | {_default(field)} | {text} |"
            continue
        if text or len(inner) > 1:
            yield f"| `{path}` | {_default(field)} | {text or 'As `name` one of these.'} |"
        for section in inner:
            yield from _rows(section, f"{path}." if len(inner) == 1 else f"{path} ({_name(section)}).")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a type, however wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _name(section: type[BaseModel]) -> str:
    return str(section.model_fields["name"].default)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel) and "name" not in type(value).model_fields:
        return ""
    return f"`{_value(value)}`"


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return str(value.name)  # type: ignore[attr-defined]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        value = list(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def put(page: str) -> str:
    """`page` with the present tables between its markers."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + reference() + "\n" + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(reference(), end="")
