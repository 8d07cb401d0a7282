"""pydantic's errors as lines: the key's path, what came and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from pydantic import ValidationError

from .config import Config
from .key_path import KeyPath, key_path, names_of

FORMS = {  # of keys whose pattern would tell nobody anything
    "device": "cpu, cuda or cuda:N",
    "backbone.factory": "module:callable or timm:NAME",
}


class _Problem(NamedTuple):
    """keys and what: which value is wrong and how; allowed: instead, "" where `what` says so itself."""

    keys: tuple[Any, ...]
    what: str
    allowed: str = ""


def problem_lines(error: ValidationError) -> list[str]:
    """One line for each key and value: a value that may be of several types comes with an error for each."""
    allowed: dict[tuple[tuple[Any, ...], str], list[str]] = {}
    for entry in error.errors(include_url=False):
        problem = _problem(dict(entry))
        allowed.setdefault((problem.keys, problem.what), []).append(problem.allowed)
    return [
        what + (", allowed is " + " or ".join(these) if any(these) else "")
        for (_, what), these in allowed.items()
    ]


def _problem(error: dict[str, Any]) -> _Problem:
    location, came, context = error["loc"], error["input"], error.get("ctx", {})
    kind = error["type"]
    if kind == "string_type" and location[-1] == "[key]":  # pydantic's mark for a key itself, behind that key
        path = key_path(Config, location[:-2])
        return _Problem(path.keys, f"{path}: the name {came!r} is no text", f"{str(came)!r}, in quotes")
    path = key_path(Config, location)
    what, allowed = _what(path, kind, came, context, error["msg"])
    return _Problem(path.keys, what, allowed)


def _what(path: KeyPath, kind: str, came: Any, context: dict[str, Any], message: str) -> tuple[str, str]:
    """(which value is wrong and how, what is allowed instead or "")."""
    if kind == "extra_forbidden":
        return f"{path}: unknown key, allowed are {_allowed_keys(path)}", ""
    if kind == "missing":
        return f"{path}: missing", ""
    if kind == "value_error":
        return f"{path}: {context['error']}" if path.keys else str(context["error"]), ""
    if kind == "union_tag_invalid":
        return f"{path}.name: {context['tag']!r}, allowed are {context['expected_tags']}", ""
    if kind == "union_tag_not_found":
        return f"{path}.name: missing, allowed are {', '.join(map(repr, names_of(path.kinds)))}", ""
    if kind == "invalid_key":
        return f"{path}: unknown key, allowed are names", ""
    value = f"{path}: {came!r}"
    if kind == "string_pattern_mismatch":
        return value, FORMS.get(str(path)) or "what matches " + context["pattern"]
    if kind == "too_short":
        return value, f"at least {_counted(context['min_length'])}"
    if kind == "too_long":
        return value, f"at most {_counted(context['max_length'])}"
    if kind == "path_type":
        return value, "a path"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return value, "a mapping of keys to values"
    return value, message.removeprefix("Input should be ").removesuffix(" or None")


def _counted(entries: int) -> str:
    return "one entry" if entries == 1 else f"{entries} entries"


def _allowed_keys(path: KeyPath) -> str:
    names = [] if path.section is None else list(path.section.model_fields)
    near = difflib.get_close_matches(str(path.keys[-1]), names, 1)
    return ", ".join(names) + (f"; did you mean {near[0]!r}?" if near else "")
