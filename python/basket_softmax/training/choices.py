"""Config sections for the library's own small objects: margins, rules, guards, augmentation.

Each section has the fields, types and defaults of the object's constructor, read from its signature, so that a new
argument there is a new key here. `name` says which object it is; the constructor itself checks the values.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

import basket_softmax as bs


class Section(BaseModel):
    """A part of the config: unknown keys are errors, and nothing is converted (an int is fine as a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Built(Section):
    """A section that stands for an object."""

    model_config = ConfigDict(
        use_attribute_docstrings=False
    )  # these are made from signatures, not from source

    @model_validator(mode="after")
    def _constructor_accepts(self) -> Built:
        try:
            self.build(**self._examples())
        except TypeError as error:
            raise ValueError(str(error)) from None
        return self

    def build(self, **given: Any) -> Any:
        """The object.

        Args:
            given: arguments that are no keys.
        """
        raise NotImplementedError

    def _examples(self) -> dict[str, Any]:
        """Arguments that are no keys, as they might be, to try the constructor with."""
        return {}


def section_of(
    factory: Callable[..., Any],
    name: str | None = None,
    examples: Callable[[], dict[str, Any]] = dict,
    **fields_of: Any,
) -> type[Built]:
    """The section of an object whose constructor is `factory`.

    Args:
        name: of the object among its kind, the only value that the key `name` may have; None: there is no such key.
        examples: of the arguments that are no keys, since only a run has them.
        fields_of: (type, default) of arguments that are sections themselves; `...` as the default: it must be given.
    """
    owner = factory.__init__ if inspect.isclass(factory) else factory
    hints = get_type_hints(owner)
    fields: dict[str, Any] = {}
    if name is not None:
        fields["name"] = (Literal[name], name)
    told, no_keys = _documented(factory), examples().keys()
    for key, parameter in inspect.signature(factory).parameters.items():
        if key in no_keys:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        kind, default = fields_of.get(key) or (hints[key], default)
        fields[key] = (kind, Field(default, description=told.get(key)))

    def build(self: Section, **given: Any) -> Any:
        values = {key: getattr(self, key) for key in type(self).model_fields if key != "name"}
        return factory(**given, **{k: v.build() if isinstance(v, Built) else v for k, v in values.items()})

    label = getattr(factory, "__name__", "") + "Section"
    made = create_model(label, __base__=Built, __module__=__name__, **fields)
    made.build = build  # type: ignore[method-assign]
    made._examples = lambda self: examples()  # type: ignore[method-assign]
    return made


def _documented(factory: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of `factory` says about each argument: its lines `name: text`, however they go on."""
    told: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.getdoc(factory).splitlines() if factory.__doc__ else []:  # type: ignore[union-attr]
        start = re.match(r"\s*(\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            told.update((name, start[2]) for name in names)
        elif line.startswith("    ") and names:
            told.update((name, f"{told[name]} {line.strip()}") for name in names)
        else:
            names = []
    return told


def one_of(sections: Mapping[str, type[BaseModel]], default: str | None = None) -> Any:
    """The type of a key that holds one of `sections`, chosen by its `name`; `topk` alone means `{name: topk}`.

    Args:
        default: the name where none is given; None: it has to be.
    """

    def named(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if default is not None and isinstance(value, dict) and "name" not in value:
            return {"name": default, **value}
        return value

    union = reduce(or_, sections.values())
    return Annotated[union, Field(discriminator="name"), BeforeValidator(named)]


_FAMILY = {
    "arcface": section_of(bs.ArcFace, "arcface"),
    "cosface": section_of(bs.CosFace, "cosface"),
    "sphereface": section_of(bs.SphereFace, "sphereface"),
    "combined": section_of(bs.CombinedMargin, "combined"),
}
_Family = one_of(_FAMILY, "arcface")
MARGINS = {
    **_FAMILY,
    "adaface": section_of(bs.AdaFace, "adaface"),
    "magface": section_of(bs.MagFace, "magface"),
    "curricularface": section_of(bs.CurricularFace, "curricularface"),
    "asoftmax": section_of(bs.ASoftmax, "asoftmax"),
    "interclass_filter": section_of(
        bs.InterclassFilter, "interclass_filter", margin=(_Family, _FAMILY["arcface"]())
    ),
}
GUARDS = {
    "absolute": section_of(bs.Absolute, "absolute"),
    "relative": section_of(bs.Relative, "relative"),
    "ema": section_of(bs.Ema, "ema"),
}
Guard = one_of(GUARDS)
RULES = {
    "all": section_of(bs.All, "all"),
    "own": section_of(bs.Own, "own"),
    "below": section_of(bs.Below, "below", guard=(Guard, ...)),
    "topk": section_of(bs.TopK, "topk", guard=(Guard | None, None)),
}
Margin, Rule = one_of(MARGINS, "arcface"), one_of(RULES, "topk")


def _smallest_head() -> dict[str, Any]:
    return {"loss": bs.BasketSoftmaxLoss([1], 1), "seed": 0}


Linking: Any = section_of(bs.IdentityLinker, examples=_smallest_head)
