"""The learning rate as a function of the step: linear warm-up, then half a cosine. There is no state to resume."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, steps: int, warmup: int, final: float) -> float:
    """Fraction of the peak learning rate in `step`.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole run.
        warmup: steps in which it rises from peak / warmup to the peak.
        final: fraction that the cosine ends at, right after the last step; 1 makes it constant.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))
