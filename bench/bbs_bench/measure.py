"""Timing: providers take turns within each round, in a new order each time, so that drift hits all alike.

A step is forward plus backward to the embeddings and the centres. Reported are the median and the quartiles
of the rounds. Losses are compared before anything is timed: what computes something else is not measured.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import Case, make_data
from .providers import PROVIDERS

WARM_UP = 2
LOSS_TOLERANCE = 1e-3  # relative; what separates rounding from another formula


@dataclass(frozen=True)
class Timing:
    """One row of the result: seconds per step of one provider on one case."""

    case: str
    provider: str
    rounds: int
    median: float
    lower_quartile: float
    upper_quartile: float
    loss: float


def measure(case: Case, *, rounds: int, advance: Callable[[], None] = lambda: None) -> list[Timing]:
    """Times every provider that covers `case`; `advance` is called after each round.

    Raises:
        RuntimeError: two providers disagree on the loss.
    """
    steps = {}
    losses = {}
    for name, provider in PROVIDERS.items():
        data = make_data(case)
        prepared = provider(case, data)
        if prepared is None:
            continue
        steps[name] = _step(*prepared)
        for _ in range(WARM_UP):
            losses[name] = steps[name]()
    _check_agreement(case, losses)

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            began = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - began)
        advance()
    return [_summary(case, name, seconds[name], losses[name]) for name in steps]


def _step(forward: Callable[[], Tensor], wanted: tuple[Tensor, ...]) -> Callable[[], float]:
    def step() -> float:
        loss = forward()
        torch.autograd.grad(loss, wanted)
        return float(loss.detach())

    return step


def _check_agreement(case: Case, losses: dict[str, float]) -> None:
    reference = next(iter(losses.values()))
    for name, loss in losses.items():
        if abs(loss - reference) > LOSS_TOLERANCE * abs(reference):
            raise RuntimeError(
                f"{case.name}: {name} computes {loss:.6g}, others {reference:.6g}; nothing timed"
            )


def _summary(case: Case, provider: str, seconds: list[float], loss: float) -> Timing:
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(case.describe(), provider, len(seconds), median, lower, upper, loss)
