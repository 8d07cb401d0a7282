"""A module made from a fast-reid configuration: `Head(cfg)` takes its arguments from `Head.from_config(cfg)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

CROSS_ENTROPY = "CrossEntropyLoss"  # in MODEL.LOSSES.NAME: the loss of the logits


def configurable(init: Callable[..., None]) -> Callable[..., None]:
    """Let `__init__`, whose arguments are all keywords, also take a configuration, as fast-reid's registries call it.

    `Head(cfg, **others)` is `Head(**{**Head.from_config(cfg), **others})`; a subclass may override `from_config`.
    """

    @wraps(init)
    def with_cfg(self: Any, *cfgs: Any, **arguments: Any) -> None:
        if "cfg" in arguments:
            cfgs = (*cfgs, arguments.pop("cfg"))
        if len(cfgs) > 1 or not all(hasattr(cfg, "MODEL") for cfg in cfgs):
            kinds = ", ".join(type(cfg).__name__ for cfg in cfgs)
            raise TypeError(
                f"{type(self).__name__}: expected keyword arguments, or a fast-reid configuration before them, got "
                f"{kinds}"
            )
        for cfg in cfgs:
            arguments = {**type(self).from_config(cfg), **arguments}
        init(self, **arguments)

    return with_cfg


def refuse_smoothing(losses: Iterable[str], epsilon: float) -> None:
    """Raise ValueError when the cross-entropy is to smooth its labels: this library's losses have one target a row.

    Args:
        losses: `MODEL.LOSSES.NAME`.
        epsilon: `MODEL.LOSSES.CE.EPSILON`: 0 for none, below 0 for fast-reid's adaptive smoothing.
    """
    if CROSS_ENTROPY in losses and epsilon != 0:
        raise ValueError(
            f"MODEL.LOSSES.CE.EPSILON: expected 0, got {epsilon}: label smoothing is not supported here; set "
            "MODEL.LOSSES.CE.EPSILON to 0.0 to train without it"
        )
