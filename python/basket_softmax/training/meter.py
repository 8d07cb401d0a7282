"""A row of metrics.csv: the mean loss since the last row, and what the head says about the step itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .diverged import ADVICE, Diverged
from .step import Result, Trainer


class Meter:
    """Adds up losses on the device; reads them, and so waits for the device, only when a row is due."""

    def __init__(self) -> None:
        self.sum: Tensor | None = None
        self.count = 0

    def add(self, result: Result) -> None:
        """One more step."""
        loss = result.loss.double()
        self.sum = loss if self.sum is None else self.sum + loss
        self.count += 1

    def total(self) -> float:
        """Sum of the losses since the last row; 0 right after one. Waits for the device."""
        return 0.0 if self.sum is None else float(self.sum)

    def row(self, step: int, epoch: int, result: Result, trainer: Trainer) -> dict[str, Any]:
        """The row after `step` steps; starts the next interval.

        Raises:
            Diverged: the mean loss is NaN or Inf.
        """
        assert self.sum is not None
        loss = float(self.sum) / self.count
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} in the steps up to {step}: {ADVICE}")
        self.sum, self.count = None, 0
        row: dict[str, Any] = {"step": step, "epoch": epoch, "lr": result.learning_rate, "loss": loss}
        row["gradient_norm"] = float(result.gradient_norm)
        head, linker = trainer.head, trainer.linker
        if linker is not None:
            row["linked"] = int((linker.excluded >= 0).sum())
        for key, value in head.stats().items():
            if key == "mean_loss":  # of this step alone; `loss` is the mean over the interval
                continue
            if value.dim() == 0:
                row[key] = float(value)
            else:
                row.update(
                    (f"{key}/{name}", float(v))
                    for name, v in zip(head.baskets.names, value.tolist(), strict=True)
                )
        return row

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint in the middle of an interval."""
        return {"sum": None if self.sum is None else self.sum.cpu(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on in the middle of an interval."""
        self.sum = None if state["sum"] is None else state["sum"].to(device)
        self.count = state["count"]
