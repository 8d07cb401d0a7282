"""YAML to `Config` and back: every problem is one line with the key's path, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .changes import SOURCES, Changes, change_values
from .config import Config
from .config_errors import ConfigError, problem_lines

PATHS = ("output", "loss.aliases")  # and the path of every basket
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number, as YAML 1.2 does, and refuses a key that is given twice.

    A key that a merge (`<<`) brings as well is not twice there: what is written in the mapping itself counts.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._checked: set[int] = set()  # nodes; a merge writes into them what it brings

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._checked:
            self._checked.add(id(node))
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            merges = key_node.tag == MERGE
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ConfigError(
                    f"line {key_node.start_mark.line + 1}: expected a name as the key, got {key!r}"
                )
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
            seen.add(key)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_config(path: str | PathLike[str], changes: Changes | None = None) -> Config:
    """Read a config file.

    Args:
        path: YAML; paths in it are relative to its folder.
        changes: {"loss.scale": 32.0, ("baskets", "glint", "path"): "data/glint"}: values that replace those of the
            file, one after the other, by their path of keys; other keys of a section stay. Paths of files in it are
            relative to the working directory.

    Raises:
        ConfigError: unknown keys, wrong values or no YAML, with a line per problem.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not UTF-8: {error.reason} at byte {error.start}") from None
    found = parse_yaml(text, str(path))
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, got {type(found).__name__}")
    return make_config(_absolute(found, path.resolve().parent), changes, str(path))


def make_config(values: dict[str, Any], changes: Changes | None = None, where: str = "config") -> Config:
    """A config from plain values; see `load_config`. Paths are relative to the working directory."""
    try:
        values = change_values(values, changes or {})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    try:
        return Config.model_validate(_absolute(values, Path.cwd()))
    except ValidationError as error:
        lines = problem_lines(error)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError("\n  ".join([f"{where}: {count}", *lines])) from None


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; a `ConfigError` that names `where` and the line otherwise."""
    try:
        return yaml.load(text, _Loader)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise ConfigError(f"{where}: {line}no YAML: {getattr(error, 'problem', None) or error}") from None


def to_yaml(config: Config) -> str:
    """The whole config, defaults included, as YAML that `load_config` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(old: Config, new: Config, free: Sequence[str] = ()) -> list[str]:
    """Lines `key: old value, now new value` of the keys that differ; values of keys that match a pattern of `free` may.

    A key that only one of them has is a difference in any case.
    """
    a, b = (dict(_leaves(c.model_dump(mode="json"))) for c in (old, new))
    return [
        f"{key}: {a.get(key)!r}, now {b.get(key)!r}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
        and not (key in a and key in b and any(fnmatchcase(key, pattern) for pattern in free))
    ]


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def _absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy whose paths start at the root."""

    def full(value: Any) -> Any:
        if isinstance(value, (str, Path)):
            return folder / Path(value).expanduser()
        return value

    def mapped(values: Any, path: Sequence[str], change: Callable[[Any], Any]) -> Any:
        if not path:
            return change(values)
        if not isinstance(values, dict) or path[0] not in values:
            return values
        return {**values, path[0]: mapped(values[path[0]], path[1:], change)}

    def sources(found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        return {
            name: mapped(source, ["path"], full) if isinstance(source, dict) else full(source)
            for name, source in found.items()
        }

    for path in PATHS:
        values = mapped(values, path.split("."), full)
    for section in (*SOURCES, ("validation", "pairs")):
        values = mapped(values, section, sources)
    return values
