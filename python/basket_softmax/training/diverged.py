"""`Diverged`, and the look at the weights before anything is measured or saved.

The loss may be finite while the update after it is not, and the rows of metrics.csv may be far apart: without this look
a checkpoint would hold NaN. It waits for the device, so it is not taken on every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .step import Trainer

ADVICE = "lower optimizer.lr, set clip, or lengthen schedule.warmup_epochs; no checkpoint has any of it"


class Diverged(RuntimeError):
    """The loss, a weight or an embedding is not a finite number any more."""


def check_finite(trainer: Trainer, loss_sum: float, step: int) -> None:
    """Every rank calls it, after `step` steps, with the sum of the losses since it last looked or wrote a row.

    Raises:
        Diverged: on every rank, when on any of them the losses, the backbone's parameters or running means, or the norm
            of a centre are not finite.
    """
    finite = {
        "the loss": math.isfinite(loss_sum),
        "the backbone": all(bool(tensor.isfinite().all()) for tensor in _trained(trainer.backbone)),
        "class centres": bool(
            torch.linalg.vector_norm(trainer.head.weight.detach(), dim=-1).isfinite().all()
        ),
    }
    ranks = trainer.ranks.from_all(finite)
    wrong = [name for name in finite if not all(rank[name] for rank in ranks)]
    if wrong:
        raise Diverged(f"NaN or Inf after step {step} in {' and '.join(wrong)}: {ADVICE}")


def _trained(backbone: nn.Module) -> Iterator[Tensor]:
    """What changes while training: another buffer may hold -inf, as masks do."""
    yield from backbone.parameters()
    for name, buffer in backbone.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            yield buffer
