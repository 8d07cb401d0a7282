"""Means over seeds with 95 % confidence intervals (Student's t), and differences paired by seed.

A seed draws the datasets, the initial weights and the order, the same for every rule: a hard draw is hard for all of
them, so that differences within a seed vary less than figures do between seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .store import Row

CONFIDENCE = 0.95
BASELINE, MOST = "own", "oracle"


@dataclass(frozen=True)
class Interval:
    """mean ± half over n values; half is infinite for one value."""

    mean: float
    half: float
    n: int

    def __str__(self) -> str:
        return self.text()

    def text(self, sign: str = "", digits: int = 1) -> str:
        """mean ± half; the mean alone when n is 1."""
        shown = f"{self.mean:{sign}.{digits}f}"
        return f"{shown} ± {self.half:.{digits}f}" if self.n > 1 else shown


def interval(values: Iterable[float]) -> Interval:
    """The mean and its confidence interval: half = t(0.975, n - 1) * s / sqrt(n).

    Raises:
        ValueError: no values.
    """
    table = np.asarray(list(values), float)
    n = len(table)
    if n == 0:
        raise ValueError("values: expected at least one, got none")
    if n == 1:
        return Interval(float(table[0]), float("inf"), 1)
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)
    return Interval(float(table.mean()), float(quantile * table.std(ddof=1) / np.sqrt(n)), n)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """mean(numerators) / mean(denominators), paired, with the linearised interval of a ratio of means.

    A mean of ratios would be ruled by the seed whose denominator happens to be small. half is that of the mean of
    numerators - ratio * denominators, divided by mean(denominators) (Cochran, "Sampling Techniques", 3rd ed., 6.3).

    Raises:
        ValueError: no values, or not equally many.
    """
    over, under = np.asarray(list(numerators), float), np.asarray(list(denominators), float)
    if len(over) != len(under):
        raise ValueError(f"over, under: expected equally many, got {len(over)} and {len(under)}")
    mean = interval(over).mean / interval(under).mean
    return Interval(mean, interval(over - mean * under).half / abs(float(under.mean())), len(over))


class Cell:
    """The rows of one cell, by rule and seed.

    Args:
        rows: of any cells; those of `name` are taken.
    """

    def __init__(self, rows: Sequence[Row], name: str) -> None:
        self.of: dict[str, dict[int, Row]] = {}
        for row in rows:
            if row["cell"] == name:
                self.of.setdefault(row["rule"], {})[row["seed"]] = row

    def seeds(self, *rules: str) -> list[int]:
        """Seeds that all of these rules have."""
        return sorted(set.intersection(*(set(self.of.get(rule, {})) for rule in rules)))

    def percent(self, rule: str, metric: str) -> list[float]:
        """By ascending seed."""
        return [100.0 * self.of[rule][seed][metric] for seed in self.seeds(rule)]

    def differences(self, rule: str, baseline: str = BASELINE, metric: str = "rank1") -> list[float]:
        """Points above `baseline`, seed by seed, for the seeds that both have."""
        return self._gains(self.seeds(rule, baseline), rule, baseline, metric)

    def closed(self, rule: str, metric: str = "rank1") -> Interval | None:
        """Percent of the distance from `own` to `oracle` that the rule closes; None without a seed of all three."""
        seeds = self.seeds(rule, BASELINE, MOST)
        if not seeds:
            return None
        found = ratio(*(self._gains(seeds, r, BASELINE, metric) for r in (rule, MOST)))
        return Interval(100.0 * found.mean, 100.0 * found.half, found.n)

    def _gains(self, seeds: Sequence[int], rule: str, baseline: str, metric: str) -> list[float]:
        return [100.0 * (self.of[rule][seed][metric] - self.of[baseline][seed][metric]) for seed in seeds]
