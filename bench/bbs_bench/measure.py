"""Timing: providers take turns within each round, in a new order each time, so that drift hits all alike.

A step is forward plus backward. Reported are medians and quartiles of the rounds, and the median of the rounds'
ratios to ours. Losses are compared before anything is timed: what computes something else is not measured.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bbs_kernels import _core  # type: ignore[attr-defined]  # compiled

from .cases import Case, make_data
from .providers import OURS, PROVIDERS, Step

WARM_UP = 2
LOSS_TOLERANCE = 1e-3  # relative; what separates rounding from another formula


@dataclass(frozen=True)
class Timing:
    """One provider on one case. Seconds per step; ratio: time over ours, median over the rounds.

    forward_gflops: of the cosines alone, per second of forward; peak_share: of this thread count's measured
    multiply-add peak. extra_mib: peak memory of a step beyond the inputs and the gradients, where measured.
    """

    case: str
    allocator: str
    threads: int
    provider: str
    rounds: int
    forward: float
    median: float
    lower_quartile: float
    upper_quartile: float
    ratio: float
    forward_gflops: float
    peak_share: float
    loss: float
    extra_mib: float | None = None


def measure(
    case: Case, *, rounds: int, allocator: str, threads: int, advance: Callable[[], None] = lambda: None
) -> list[Timing]:
    """Time every provider that covers `case`; `advance` is called after each round.

    Raises:
        RuntimeError: two providers disagree on the loss.
    """
    data = make_data(case)
    steps: dict[str, Step] = {}
    losses: dict[str, float] = {}
    for name, provider in PROVIDERS.items():
        step = provider(case, data)
        if step is None:
            continue
        steps[name] = step
        for _ in range(WARM_UP):
            _, _, losses[name] = run(step)
    _check_agreement(case, losses)

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    peaks = []
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        peaks.append(_core.fma_peak(0.02))
        for name in order:
            forward, total, _ = run(steps[name])
            seconds[name].append((forward, total))
        advance()
    peak = threads * statistics.median(peaks)
    return [
        _summary(case, allocator, threads, name, seconds[name], seconds[OURS], losses[name], peak)
        for name in steps
    ]


def run(step: Step) -> tuple[float, float, float]:
    """Seconds of forward, of both, and the loss."""
    began = time.perf_counter()
    loss = step.forward()
    middle = time.perf_counter()
    step.backward(loss)
    return middle - began, time.perf_counter() - began, float(loss.detach())


def _check_agreement(case: Case, losses: dict[str, float]) -> None:
    reference = losses[OURS]
    for name, loss in losses.items():
        if abs(loss - reference) > LOSS_TOLERANCE * abs(reference):
            raise RuntimeError(
                f"{case.name}: {name} computes {loss:.6g}, ours {reference:.6g}; nothing timed"
            )


def _summary(
    case: Case,
    allocator: str,
    threads: int,
    provider: str,
    seconds: list[tuple[float, float]],
    ours: list[tuple[float, float]],
    loss: float,
    peak: float,
) -> Timing:
    forward = statistics.median(f for f, _ in seconds)
    lower, median, upper = statistics.quantiles([t for _, t in seconds], n=4, method="inclusive")
    ratio = statistics.median(mine / other for (_, mine), (_, other) in zip(seconds, ours, strict=True))
    rate = case.forward_gflop() / forward
    return Timing(
        case.name,
        allocator,
        threads,
        provider,
        len(seconds),
        forward,
        median,
        lower,
        upper,
        ratio,
        rate,
        rate / peak,
        loss,
    )
