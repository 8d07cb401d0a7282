"""Who is timed: each provider turns a case's data into a step, or says that it does not cover the case.

A step is `forward()` and `backward(loss)`; the gradients of the embeddings and the centres are its result. The
fused provider has no gradient of the centres: its backward is the optimiser's step as well.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.rules import All, Own

from .cases import SCALE, Case, Data
from .chunked import chunked_arcface
from .eager import basket_arcface

EAGER_LIMIT = 6 << 30  # bytes of one B x C matrix and its likes that a provider may hold


@dataclass(frozen=True)
class Step:
    """forward() -> loss; backward(loss) computes what the provider owes."""

    forward: Callable[[], Tensor]
    backward: Callable[[Tensor], object]


def _gradients(forward: Callable[[], Tensor], *wanted: Tensor) -> Step:
    return Step(forward, lambda loss: torch.autograd.grad(loss, wanted))


def _one_label_space(case: Case) -> bool:
    return len(case.sizes) == 1 and isinstance(case.mining, (All, Own))


def _too_large(case: Case) -> bool:
    """Would eager's handful of B x C and C x D buffers pass the limit?"""
    return 4 * (4 * case.batch * case.classes + 3 * case.classes * case.width) > EAGER_LIMIT


def ours(case: Case, data: Data) -> Step:
    margin = bs.ArcFace(case.margin)

    def forward() -> Tensor:
        return bs.functional.basket_softmax(
            data.x, data.w, data.labels, data.offsets, margin=margin, scale=SCALE, mining=case.mining
        )

    return _gradients(forward, data.x, data.w)


def ours_fused(case: Case, data: Data) -> Step:
    """With the optimiser's step inside: it does more than the others, and holds no gradient of the centres."""
    loss = bs.BasketSoftmaxLoss(
        case.sizes, case.width, bs.ArcFace(case.margin), SCALE, case.mining, device="meta"
    )
    loss.weight = torch.nn.Parameter(data.w.detach())
    optimizer = bs.optim.FusedSGD(loss, lr=0.0)

    def backward(value: Tensor) -> None:
        data.x.grad = None
        value.backward()
        optimizer.step()

    return Step(lambda: loss(data.x, data.labels), backward)


def eager(case: Case, data: Data) -> Step | None:
    if _too_large(case):
        return None

    def forward() -> Tensor:
        return basket_arcface(
            data.x, data.w, data.labels, data.offsets, margin=case.margin, scale=SCALE, mining=case.mining
        )

    return _gradients(forward, data.x, data.w)


def compiled(case: Case, data: Data) -> Step | None:
    """torch.compile of the published formula: several baskets would break its graph at every basket."""
    if not _one_label_space(case) or _too_large(case):
        return None
    formula = torch.compile(published)
    return _gradients(lambda: formula(data.x, data.w, data.labels, case.margin), data.x, data.w)


def published(x: Tensor, w: Tensor, labels: Tensor, margin: float) -> Tensor:
    """ArcFace as its authors' code has it: B x C logits, the margin at the target, cross entropy."""
    cos = F.normalize(x) @ F.normalize(w).t()
    target = labels[:, None]
    theta = torch.arccos(cos.gather(1, target).clamp(-1 + 1e-7, 1 - 1e-7))
    return F.cross_entropy(SCALE * cos.scatter(1, target, torch.cos(theta + margin)), labels)


def insightface_formula(case: Case, data: Data) -> Step | None:
    if not _one_label_space(case) or _too_large(case):
        return None
    return _gradients(lambda: published(data.x, data.w, data.labels, case.margin), data.x, data.w)


def chunked(case: Case, data: Data) -> Step | None:
    if not _one_label_space(case):
        return None
    return _gradients(
        lambda: chunked_arcface(data.x, data.w, data.labels, case.margin, SCALE), data.x, data.w
    )


def metric_learning(case: Case, data: Data) -> Step | None:
    """pytorch-metric-learning's ArcFaceLoss: one basket only, and only where it is installed."""
    if not _one_label_space(case) or _too_large(case) or not _installed("pytorch_metric_learning"):
        return None
    from pytorch_metric_learning.losses import ArcFaceLoss

    loss = ArcFaceLoss(case.classes, case.width, margin=math.degrees(case.margin), scale=SCALE)
    loss.W.data = data.w.detach().t().contiguous()
    return _gradients(lambda: loss(data.x, data.labels), data.x, loss.W)


def linear_cross_entropy(case: Case, data: Data) -> Step | None:
    """torch's chunked product and cross entropy: knows no margin, so only the case without one."""
    if not _one_label_space(case) or case.margin or not hasattr(F, "linear_cross_entropy"):
        return None

    def forward() -> Tensor:
        return F.linear_cross_entropy(
            SCALE * F.normalize(data.x),
            F.normalize(data.w),
            data.labels,
            options=torch.nn.LinearCrossEntropyOptions(),
        )

    return _gradients(forward, data.x, data.w)


def cut_cross_entropy(case: Case, data: Data) -> Step | None:
    """Its torch.compile path (its kernels are Triton's), where it and Triton are installed; no margin either."""
    if (
        not _one_label_space(case)
        or case.margin
        or not (_installed("cut_cross_entropy") and _installed("triton"))
    ):
        return None
    from cut_cross_entropy import linear_cross_entropy as cut

    def forward() -> Tensor:
        return cut(SCALE * F.normalize(data.x), F.normalize(data.w), data.labels, impl="torch_compile")

    return _gradients(forward, data.x, data.w)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


OURS = "bbs-kernels"
PROVIDERS: dict[str, Callable[[Case, Data], Step | None]] = {
    OURS: ours,
    "bbs-kernels, fused SGD": ours_fused,
    "eager PyTorch": eager,
    "torch.compile": compiled,
    "insightface's formula": insightface_formula,
    "chunk-over-C loop": chunked,
    "pytorch-metric-learning": metric_learning,
    "F.linear_cross_entropy": linear_cross_entropy,
    "cut-cross-entropy": cut_cross_entropy,
}
