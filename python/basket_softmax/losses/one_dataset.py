"""What the heads of one dataset share: no rule between baskets, as long as there is one basket."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bbs_kernels import Own

from .basket import BasketSoftmaxLoss
from .protocols import FirstCentres


class OneDatasetLoss(BasketSoftmaxLoss):
    """`BasketSoftmaxLoss` with one basket of `num_classes` classes and the rule `Own()`."""

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: Callable[..., Any],
        scale: float,
        **options: Any,
    ) -> None:
        for name in ("baskets", "mining"):
            if name in options:
                raise TypeError(
                    f"{type(self).__name__} is for one dataset and takes no {name}: BasketSoftmaxLoss(baskets, "
                    "embedding_size, margin, scale, mining) is for several"
                )
        super().__init__([num_classes], embedding_size, margin, scale, Own(), **options)

    def add_basket(
        self,
        name: str,
        size: int,
        init: str | Tensor | FirstCentres = "random",
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """As `BasketSoftmaxLoss.add_basket`; the rule stays what it is, `Own()` unless `mining` was assigned.

        Warns:
            UserWarning: there are two baskets now, and under `Own()` neither has negatives of the other. A
                `BasketSoftmaxLoss([C], D, mining=bs.Own())` does not warn.
        """
        super().add_basket(name, size, init, optimizer)
        if len(self.baskets) == 2 and self.mining == Own():
            warnings.warn(
                f"{type(self).__name__} has two baskets now and mining is still Own(): classes of the other basket are "
                "no negatives. Assign mining = TopK() where datasets may share identities, All() where they do not",
                stacklevel=2,
            )
