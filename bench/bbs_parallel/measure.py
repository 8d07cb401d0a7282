"""All layouts and providers in turn within each round, in a new order each time, so that drift hits all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from .cases import LAYOUTS, PROVIDERS, TWO_RANKS, Size
from .ranks import Key, Ran, Ranks

WARM_UP = 2
LEAST_ROUNDS = 2  # quartiles need two
# Losses of the same problem by everybody. Samples are drawn differently, so that their log-sum-exp differs.
TOLERANCE, SAMPLED_TOLERANCE = 1e-4, 0.05


def measure(
    size: Size, rounds: int, seconds: float, advance: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """{"timings": …, "scaling": …}, see `timings` and `scaling`; `advance` is called after each of the
    `rounds` + `WARM_UP`. No round begins after `seconds`, but for the first two.

    Raises:
        RuntimeError: two providers disagree on the loss.
    """
    end = time.monotonic() + seconds
    keys = [(layout.name, provider.name) for provider in PROVIDERS for layout in LAYOUTS]
    found: dict[Key, list[Ran]] = {key: [] for key in keys}
    with Ranks(size) as ranks:
        for _ in range(WARM_UP):
            for key in keys:
                last = ranks.run(key)
                found[key] = [last]
            advance()
        check_losses({key: ran.loss for key, (ran,) in found.items()})
        found = {key: [] for key in keys}
        order, shuffle = list(keys), random.Random(0).shuffle
        for n in range(rounds):
            if n >= LEAST_ROUNDS and time.monotonic() > end:
                break
            shuffle(order)
            for key in order:
                found[key].append(ranks.run(key))
            advance()
    return {"timings": timings(found, size), "scaling": scaling(found)}


def check_losses(losses: dict[Key, float]) -> None:
    """Every provider with one basket, in every layout with all rows and classes, has the same loss."""
    whole = [layout.name for layout in LAYOUTS if layout.rows == layout.classes == 1.0]
    reference = losses[whole[0], PROVIDERS[0].name]
    for provider in PROVIDERS:
        against, tolerance = reference, TOLERANCE
        if provider.sample_rate < 1.0:
            sampled = next(p for p in PROVIDERS if p.sample_rate == provider.sample_rate)
            against, tolerance = losses[whole[0], sampled.name], SAMPLED_TOLERANCE
        elif provider.baskets > 1:  # another loss: only its layouts are compared
            against = losses[whole[0], provider.name]
        for name in whole:
            loss = losses[name, provider.name]
            if not abs(loss - against) <= tolerance * abs(against):
                raise RuntimeError(f"{provider.name}, {name}: loss {loss:.6g}, expected is {against:.6g}")


def timings(found: dict[Key, list[Ran]], size: Size) -> list[dict[str, Any]]:
    """Per layout and provider: quartiles of the seconds per step, and the bytes that a rank received in one."""
    rows = []
    for layout in LAYOUTS:
        for provider in PROVIDERS:
            ran = found[layout.name, provider.name]
            lower, median, upper = quartiles([r.seconds for r in ran])
            rows.append(
                {
                    "provider": provider.name,
                    "layout": layout.name,
                    "ranks": layout.ranks,
                    "threads": layout.threads,
                    "rows": int(size.rows * layout.rows),
                    "classes": int(size.classes * layout.classes),
                    "rounds": len(ran),
                    "median": median,
                    "lower_quartile": lower,
                    "upper_quartile": upper,
                    "received_bytes": statistics.median_low([r.received for r in ran]),
                    "loss": ran[-1].loss,
                }
            )
    return rows


def scaling(found: dict[Key, list[Ran]]) -> list[dict[str, Any]]:
    """Per provider and layout of one rank: time over that of two ranks, quartiles over the rounds. Strong scaling
    ("one rank") is perfect at 2, weak scaling ("half …") at 1."""
    rows = []
    for provider in PROVIDERS:
        two = found[TWO_RANKS, provider.name]
        for layout in LAYOUTS:
            if layout.name == TWO_RANKS:
                continue
            one = found[layout.name, provider.name]
            lower, median, upper = quartiles([a.seconds / b.seconds for a, b in zip(one, two, strict=True)])
            rows.append(
                {
                    "provider": provider.name,
                    "against": layout.name,
                    "median": median,
                    "lower_quartile": lower,
                    "upper_quartile": upper,
                }
            )
    return rows


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper
