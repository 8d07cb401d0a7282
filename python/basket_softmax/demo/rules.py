"""The rows of the demo's table: what each rule's loss is. Thresholds were chosen on validation characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import basket_softmax as bs

from .regimes import Regime, TrainingSet

TUNED = 0.4  # the best mean of 0.3, 0.35, 0.4 and 0.5 over three seeds of validation characters
MISTUNED = 0.6
EMA = 0.6  # better than 0.8 there

Rule = Callable[[Regime], "bs.TopK | bs.All | bs.Own | bs.Below"]

RULES: dict[str, Rule] = {
    "all": lambda regime: bs.All(),
    "own": lambda regime: bs.Own(),
    "below-mistuned": lambda regime: bs.Below(bs.Absolute(MISTUNED)),
    "below-tuned": lambda regime: bs.Below(bs.Absolute(TUNED)),
    "bbs-ema": lambda regime: bs.TopK(k=regime.k, skip=0, guard=bs.Ema(EMA)),
    "bbs": lambda regime: bs.TopK(k=regime.k, skip=1),
    "oracle": lambda regime: bs.All(),
}
# Beyond the demo's table: the default rule while `make_linker` finds who is the same; how many trainings.
LINKED = {"linker-exclude": 1, "linker": 1, "linker-twice": 2}
QUICK = ("all", "own", "bbs", "oracle")


def make_loss(
    rule: str, regime: Regime, data: TrainingSet, width: int, scale: float, group: Any = None
) -> bs.BasketSoftmaxLoss:
    """The head of a rule, over the ranks of `group` if given; the oracle has one basket whose labels are the true
    identities."""
    sizes = data.sizes if rule != "oracle" else (len(np.unique(data.identity)),)
    loss = bs.BasketSoftmaxLoss(
        sizes,
        width,
        bs.CosFace(0.0),
        scale,
        RULES["bbs" if rule in LINKED else rule](regime),
        process_group=group,
    )
    loss.load_full_weight(torch.nn.functional.normalize(torch.randn(loss.num_classes, width)))
    return loss


def make_linker(rule: str, loss: bs.BasketSoftmaxLoss, steps: int, seed: int) -> bs.IdentityLinker | None:
    """The linker of the rules `LINKED`, chosen on validation characters; None for every other rule."""
    if rule not in LINKED:
        return None
    share = None if rule == "linker-exclude" else 0.7
    return bs.IdentityLinker(
        loss, exclude=0.6, share=share, probability=0.5, every=10, start=steps // 6, seed=seed
    )


def link_quality(linker: bs.IdentityLinker, labels: Tensor, identity: np.ndarray) -> dict[str, float]:
    """{"link_precision", "link_recall"} of pairs of linked classes, against the truth, in [0, 1].

    Those that exchange labels, or, without such, those that are no negatives of each other.

    Args:
        labels, identity: [N] of the training pictures: the global class and who it is.
    """
    person = torch.full((len(linker.shared),), -1)
    person[labels] = torch.from_numpy(identity)
    links = linker.excluded if linker.share is None else linker.shared
    linked = (links[:, None] == links) & (links >= 0)
    same = (person[:, None] == person) & (person >= 0)  # wrong labels leave some classes without a picture
    found, hits, true = (int(pairs.triu(1).sum()) for pairs in (linked, linked & same, same))
    return {"link_precision": hits / max(found, 1), "link_recall": hits / max(true, 1)}


def labels_for(rule: str, data: TrainingSet, loss: bs.BasketSoftmaxLoss) -> Tensor:
    """[N] global labels of the training pictures."""
    if rule == "oracle":
        return torch.from_numpy(np.unique(data.identity, return_inverse=True)[1])
    return loss.baskets.to_global(torch.from_numpy(data.label), torch.from_numpy(data.basket))
