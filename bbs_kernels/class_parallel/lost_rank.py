"""What a collective says when another rank is gone: who was waiting, for what, and what it means.

The backend's own message ("Connection reset by peer [127.0.0.1]:43952") names a socket. Its text is kept at the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def explained(doing: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For methods of an object with `rank` and `world`: a RuntimeError of `doing` says whose it is and why."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(*args, **kwargs)
            except RuntimeError as error:
                raise RuntimeError(message(args[0], doing, error)) from error

        return call

    return decorate


def message(ranks: Any, doing: str, error: RuntimeError) -> str:
    """The text of the error that `explained` raises."""
    return (
        f"class-parallel step, rank {ranks.rank} of {ranks.world}: {doing} did not complete, since another rank has "
        f"stopped, hangs, or did not take part in this step; restart from the last checkpoint ({error})"
    )
