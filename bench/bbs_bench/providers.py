"""Who is timed: each provider turns a case's data into a forward function and names the gradients it owes."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

from torch import Tensor

import basket_softmax as bs

from .cases import MARGIN, SCALE, Case, Data
from .eager import basket_arcface

Step = tuple[Callable[[], Tensor], tuple[Tensor, Tensor]]  # forward() -> loss; (embeddings, centres)


def ours(case: Case, data: Data) -> Step:
    margin = bs.ArcFace(MARGIN)

    def forward() -> Tensor:
        return bs.functional.basket_softmax(
            data.x, data.w, data.labels, data.offsets, margin=margin, scale=SCALE, mining=case.mining
        )

    return forward, (data.x, data.w)


def eager(case: Case, data: Data) -> Step:
    def forward() -> Tensor:
        return basket_arcface(
            data.x, data.w, data.labels, data.offsets, margin=MARGIN, scale=SCALE, mining=case.mining
        )

    return forward, (data.x, data.w)


def metric_learning(case: Case, data: Data) -> Step | None:
    """pytorch-metric-learning's ArcFaceLoss: one basket only, and only where it is installed."""
    if len(case.sizes) > 1 or importlib.util.find_spec("pytorch_metric_learning") is None:
        return None
    from pytorch_metric_learning.losses import ArcFaceLoss

    loss = ArcFaceLoss(case.classes, case.width, margin=math.degrees(MARGIN), scale=SCALE)
    loss.W.data = data.w.detach().t().contiguous()
    return (lambda: loss(data.x, data.labels)), (data.x, loss.W)


PROVIDERS: dict[str, Callable[[Case, Data], Step | None]] = {
    "bbs-kernels": ours,
    "eager PyTorch": eager,
    "pytorch-metric-learning": metric_learning,
}
