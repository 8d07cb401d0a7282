"""The keys that a problem of the config is about, from where pydantic says it is.

pydantic's location mixes keys with choices: ("loss", "mining", "topk", "k") is `loss.mining.k`, and "topk" says which
section of a union was tried; ("image", "size", "constrained-int") is `image.size`. A key may have any name, also that
of a choice, so the text of a step does not tell which it is. The type of the value that the step leads into does.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel


class KeyPath(NamedTuple):
    """keys: from the root to the value, without choices.

    section: the model that the last key belongs to, None where it belongs to no model.
    kinds: types that the value may have, those that are one choice apart side by side.
    """

    keys: tuple[Any, ...]
    section: type[BaseModel] | None
    kinds: tuple[Any, ...]

    def __str__(self) -> str:
        return shown_keys(self.keys)


def shown_keys(keys: Sequence[Any]) -> str:
    """Return `keys` as a message names them, "loss.margin.margin"; a name that nobody would see is in quotes."""
    names = map(str, keys)
    return ".".join(name if name and name == name.strip() else repr(name) for name in names)


def key_path(root: type[BaseModel], location: Sequence[Any]) -> KeyPath:
    """Follow `location`, of an error of pydantic, through the types from `root` on."""
    found = KeyPath((), root, (root,))
    for step in location:
        found = _chosen(found, step) or _entered(found, step)
    return found


def names_of(kinds: Sequence[Any]) -> list[str]:
    """What the key `name` may be in a value of these types; empty where no union is told apart by it."""
    return [name for kind in kinds for name in _by_name(_alternatives(kind))]


def fields_of(kinds: Sequence[Any]) -> set[str]:
    """Return the keys of the sections that a value of these types may be."""
    sections = (one for kind in kinds for one in _alternatives(kind))
    return {name for section in sections for name in getattr(section, "model_fields", ())}


def _chosen(path: KeyPath, step: Any) -> KeyPath | None:
    """`path` with a union narrowed, when that is what `step` says; the keys stay."""
    for kind in path.kinds:
        alternatives = _alternatives(kind)
        if len(alternatives) > 1:
            named = _by_name(alternatives)
            return path._replace(kinds=(named[step],) if step in named else alternatives)
    return None


def _entered(path: KeyPath, step: Any) -> KeyPath:
    """`path` with one key more."""
    keys = (*path.keys, step)
    for kind in (one for kinds in path.kinds for one in _alternatives(kinds)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(step)
            return KeyPath(keys, kind, (Any if field is None else field.annotation,))
        origin, inner = get_origin(kind), get_args(kind)
        if origin is dict:
            return KeyPath(keys, None, (inner[1],))
        if origin in (tuple, list) and isinstance(step, int):
            alike = origin is list or inner[-1] is Ellipsis
            return KeyPath(keys, None, (inner[0] if alike else inner[step],))
    return KeyPath(keys, None, (Any,))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union but None, which is no choice for pydantic; (kind,) for every other type."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return (kind,)
    members = tuple(member for member in get_args(kind) if member is not NoneType)
    return _alternatives(members[0]) if len(members) == 1 else members


def _by_name(kinds: Sequence[Any]) -> dict[str, Any]:
    """Sections of a union that their `name` tells apart, by that name; empty for any other union."""
    named = {}
    for kind in kinds:
        field = (
            kind.model_fields.get("name") if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        )
        if field is None or len(get_args(field.annotation)) != 1:
            return {}
        named[get_args(field.annotation)[0]] = kind
    return named if len(named) > 1 else {}
