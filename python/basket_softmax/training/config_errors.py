"""`ConfigError`, and pydantic's errors as lines `key: expected X, got Y` with the whole path of the key."""

from __future__ import annotations

import difflib
import re
from typing import Any, NamedTuple

from pydantic import ValidationError

from .config import Config
from .key_path import KeyPath, fields_of, key_path, names_of

FORMS = {  # of keys whose pattern would tell nobody anything
    "device": "cpu, cuda or cuda:N",
    "backbone.factory": "module:callable or timm:NAME",
}
TYPES = {  # pydantic's words, and those of YAML
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid list": "a list",
}


class ConfigError(ValueError):
    """A config that cannot be used; the message has a line per problem."""


class _Problem(NamedTuple):
    """keys and text: which value is wrong, and how; where `expected` is given, text names only the value."""

    keys: tuple[Any, ...]
    text: str
    expected: str = ""
    got: str = ""


def problem_lines(error: ValidationError) -> list[str]:
    """One line for each key and value: a value that may be of several types comes with an error for each."""
    problems: dict[tuple[tuple[Any, ...], str, str], list[str]] = {}
    for entry in error.errors(include_url=False):
        keys, text, expected, got = _problem(dict(entry))
        problems.setdefault((keys, text, got), []).append(expected)
    return [
        text + (f": expected {' or '.join(dict.fromkeys(these))}, got {got}" if any(these) else "")
        for (_, text, got), these in problems.items()
    ]


def _problem(error: dict[str, Any]) -> _Problem:
    location, came, context = error["loc"], error["input"], error.get("ctx", {})
    kind = error["type"]
    if kind == "string_type" and location[-1] == "[key]":  # pydantic's mark for a key itself, behind that key
        path = key_path(Config, location[:-2])
        return _Problem(path.keys, str(path), f"names that are text, {str(came)!r} in quotes", repr(came))
    path = key_path(Config, location)
    text = _whole_line(path, kind, context)
    if text:
        return _Problem(path.keys, text)
    if kind == "union_tag_invalid":
        return _Problem(path.keys, f"{path}.name", f"one of {context['expected_tags']}", repr(context["tag"]))
    return _Problem(path.keys, str(path), _expected(path, kind, context, error["msg"]), repr(came))


def _whole_line(path: KeyPath, kind: str, context: dict[str, Any]) -> str:
    """The line of a problem that is not about the value of a key; "" for others."""
    if kind == "extra_forbidden":
        return f"{path}: unknown key, expected one of {_known_keys(path)}"
    if kind == "invalid_key":
        return f"{path}: unknown key, expected a name"
    if kind == "missing":
        return f"{path}: missing"
    if kind == "union_tag_not_found":
        return f"{path}.name: missing, expected one of {', '.join(map(repr, names_of(path.kinds)))}"
    if kind == "value_error":
        return _of_constructor(path, str(context["error"]))
    return ""


def _of_constructor(path: KeyPath, message: str) -> str:
    """What a section itself has to say; its "k: expected …" and "TopK: k: expected …" are about its key `k`."""
    if not path.keys:
        return message
    fields = fields_of(path.kinds)
    named = re.match(r"(?:\w+: )?(\w+): (?=expected )", message)
    if named and named[1] in fields:
        return f"{path}.{named[1]}: {message[named.end() :]}"
    return f"{path}: {message}"


def _expected(path: KeyPath, kind: str, context: dict[str, Any], message: str) -> str:
    if kind == "string_pattern_mismatch":
        return FORMS.get(str(path)) or "what matches " + context["pattern"]
    if kind == "too_short":
        return f"at least {_counted(context['min_length'])}"
    if kind == "too_long":
        return f"at most {_counted(context['max_length'])}"
    if kind == "path_type":
        return "a path"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a mapping of keys to values"
    text = message.removeprefix("Input should be ").removesuffix(" or None")
    text = next((ours + text[len(t) :] for t, ours in TYPES.items() if text.startswith(t)), text)
    return f"a number {text}" if text.startswith(("greater than", "less than")) else text


def _counted(entries: int) -> str:
    return "one entry" if entries == 1 else f"{entries} entries"


def _known_keys(path: KeyPath) -> str:
    names = [] if path.section is None else list(path.section.model_fields)
    near = difflib.get_close_matches(str(path.keys[-1]), names, 1)
    return ", ".join(names) + (f"; did you mean {near[0]!r}?" if near else "")
