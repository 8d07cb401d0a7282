"""Timing: providers take turns within each round, in a new order each time, so that drift hits all alike.

A step is forward plus backward. Reported are medians and quartiles of the rounds, and the median of the rounds'
ratios to ours, which takes the optimiser's step too where the provider does. Losses are compared before anything is
timed: what computes something else is not measured.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch

from .cases import Case, make_data
from .clock import Clock, clock_for
from .memory import extra_mib
from .providers import OURS, OURS_SGD, PROVIDERS, Step
from .results import LeftOut, Timing
from .settings import Setting

WARM_UP = 2
# What separates rounding from another formula: relative, and absolute for losses near 0 (where a cross entropy that
# subtracts two logits has nothing left). The logits are 64 cosines, which a 16-bit product rounds.
LOSS_TOLERANCE = {"float32": (1e-3, 1e-6), "float16": (1e-2, 1e-3), "bfloat16": (5e-2, 1e-2)}


def measure(
    case: Case,
    setting: Setting,
    *,
    rounds: int,
    advance: Callable[[], None] = lambda: None,
    providers: Collection[str] | None = None,
) -> tuple[list[Timing], list[LeftOut]]:
    """Time every provider that covers `case`, or those among `providers`; `advance` is called after each round.

    Raises:
        RuntimeError: two providers disagree on the loss. On a GPU a peer that is alone with its loss, or that
            fails, is left out instead.
    """
    clock = clock_for(setting)
    steps, losses, reasons = _warmed_up(case, setting, clock, providers)
    wrong = _disagreeing(losses, setting)
    if wrong and (setting.device == "cpu" or len(wrong) >= len(losses) - 1):
        name, text = next(iter(wrong.items()))
        raise RuntimeError(f"{case.name}: {name} {text}; nothing timed")
    for name in wrong:
        del steps[name]

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    peaks = []
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        peaks.append(clock.peak())
        for name in order:
            forward, total, _ = clock.run(steps[name])
            seconds[name].append((forward, total))
        advance()
    peak = statistics.median(peaks)
    timings = [
        _summary(case, setting, name, seconds[name], seconds[_counterpart(name, steps)], losses[name], peak)
        for name in steps
    ]
    if setting.device == "cuda":
        timings = [replace(t, extra_mib=extra_mib(steps[t.provider], setting.device)) for t in timings]
    return timings, [LeftOut(case.name, setting, *item) for item in (reasons | wrong).items()]


def _warmed_up(
    case: Case, setting: Setting, clock: Clock, providers: Collection[str] | None
) -> tuple[dict[str, Step], dict[str, float], dict[str, str]]:
    """The step and the loss of each provider that covers the case, and the reasons of those that failed on a GPU."""
    data = make_data(case, device=setting.device, dtype=getattr(torch, setting.dtype))
    steps: dict[str, Step] = {}
    losses: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name, provider in PROVIDERS.items():
        if providers is not None and name not in providers:
            continue
        try:
            step = provider(case, data)
            if step is None:
                continue
            for _ in range(WARM_UP):
                _, _, losses[name] = clock.run(step)
            steps[name] = step
        except Exception as error:
            if setting.device == "cpu" or name == OURS:
                raise
            losses.pop(name, None)
            reasons[name] = _reason(error)
    return steps, losses, reasons


def _reason(error: Exception) -> str:
    """Kind and first sentence: what follows is advice or a trace."""
    first = (str(error).strip().splitlines() or [""])[0].split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _disagreeing(losses: dict[str, float], setting: Setting) -> dict[str, str]:
    reference = losses[OURS]
    relative, absolute = LOSS_TOLERANCE[setting.dtype]
    allowed = relative * abs(reference) + absolute
    return {
        name: f"computes {loss:.6g}, ours {reference:.6g}"
        for name, loss in losses.items()
        if not abs(loss - reference) <= allowed  # NaN too
    }


def _counterpart(name: str, steps: Mapping[str, Step]) -> str:
    """Ours that does as much: a step with the optimiser's update is set beside the fused one, where that exists."""
    return OURS_SGD if name.endswith(", SGD") and OURS_SGD in steps else OURS


def _summary(
    case: Case,
    setting: Setting,
    provider: str,
    seconds: list[tuple[float, float]],
    ours: list[tuple[float, float]],
    loss: float,
    peak: float,
) -> Timing:
    forward = statistics.median(f for f, _ in seconds)
    lower, median, upper = statistics.quantiles([t for _, t in seconds], n=4, method="inclusive")
    ratio = statistics.median(mine / other for (_, mine), (_, other) in zip(seconds, ours, strict=True))
    return Timing(
        case=case.name,
        setting=setting,
        provider=provider,
        rounds=len(seconds),
        forward=forward,
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        ratio=ratio,
        forward_gflops=case.forward_gflop() / forward,
        peak_gflops=peak,
        loss=loss,
    )
