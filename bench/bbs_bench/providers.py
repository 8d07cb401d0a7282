"""Who is timed: each provider turns a case's data into a step, or says that it does not cover the case.

A step is `forward()` and `backward(loss)`; the gradients of the embeddings and the centres are its result. Providers
named after SGD take the optimiser's step of the centres as well, inside backward: ours without a gradient of the
centres, PyTorch's with torch.optim.SGD (fused). With 16-bit embeddings the centres stay fp32, and what is written
here in plain PyTorch rounds both for the product, as autocast does.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.functional import DEFAULT_STASH_BYTES
from bbs_kernels.rules import All, Own

from .cases import SCALE, Case, Data
from .chunked import chunked_arcface
from .eager import basket_arcface, product

# Bytes that a peer may hold on the CPU; a GPU says itself what is too much.
HELD_LIMIT = 6 << 30
# insightface's settings; no rate, so that the problem stays the same.
SGD: dict[str, Any] = {"lr": 0.0, "momentum": 0.9, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Step:
    """forward() -> loss; backward(loss) computes what the provider owes and returns it."""

    forward: Callable[[], Tensor]
    backward: Callable[[Tensor], Sequence[Tensor]]


Provider = Callable[[Case, Data], Step | None]


def _gradients(forward: Callable[[], Tensor], *wanted: Tensor) -> Step:
    return Step(forward, lambda loss: torch.autograd.grad(loss, wanted))


def _one_label_space(case: Case) -> bool:
    return len(case.sizes) == 1 and isinstance(case.mining, (All, Own))


def _too_large(case: Case, data: Data, *, matrices: int = 4) -> bool:
    """Would so many B x C matrices and the gradient's three C x D buffers pass the limit?"""
    held = 4 * (matrices * case.batch * case.classes + 3 * case.classes * case.width)
    return not data.x.is_cuda and held > HELD_LIMIT


def ours(case: Case, data: Data) -> Step:
    margin = bs.ArcFace(case.margin)

    def forward() -> Tensor:
        return bs.functional.basket_softmax(
            data.x, data.w, data.labels, data.offsets, margin=margin, scale=SCALE, mining=case.mining
        )

    return _gradients(forward, data.x, data.w)


def _head(case: Case, data: Data, **options: Any) -> bs.BasketSoftmaxLoss:
    """The module on the data's own centres."""
    loss = bs.BasketSoftmaxLoss(
        case.sizes, case.width, bs.ArcFace(case.margin), SCALE, case.mining, device="meta", **options
    )
    loss.weight = torch.nn.Parameter(data.w.detach())
    return loss


def ours_whole_stash(case: Case, data: Data) -> Step | None:
    """With memory for every cosine that backward needs, where the default budget does not hold them: no recompute."""
    bytes_needed = 4 * (case.batch + 15) * max(case.sizes)
    if data.x.is_cuda or bytes_needed <= DEFAULT_STASH_BYTES:
        return None
    loss = _head(case, data, stash_bytes=bytes_needed)
    return _gradients(lambda: loss(data.x, data.labels), data.x, loss.weight)


def ours_fused(case: Case, data: Data) -> Step:
    """FusedSGD: the update is part of backward, and no gradient of the centres is held."""
    loss = _head(case, data)
    optimizer = bs.optim.FusedSGD(loss, **SGD)

    def backward(value: Tensor) -> Sequence[Tensor]:
        data.x.grad = None
        value.backward()
        optimizer.step()
        assert data.x.grad is not None
        return (data.x.grad,)

    return Step(lambda: loss(data.x, data.labels), backward)


def then_sgd(provider: Provider) -> Provider:
    """`provider`, and torch's fused SGD after its backward."""

    def with_step(case: Case, data: Data) -> Step | None:
        w = data.w.detach().requires_grad_()
        step = provider(case, replace(data, w=w))
        if step is None:
            return None
        optimizer = torch.optim.SGD([w], **SGD, fused=True)

        def backward(value: Tensor) -> Sequence[Tensor]:
            (dx, w.grad) = step.backward(value)
            optimizer.step()
            w.grad = None
            return (dx,)

        return Step(step.forward, backward)

    return with_step


def eager(case: Case, data: Data) -> Step | None:
    if _too_large(case, data):
        return None

    def forward() -> Tensor:
        return basket_arcface(
            data.x, data.w, data.labels, data.offsets, margin=case.margin, scale=SCALE, mining=case.mining
        )

    return _gradients(forward, data.x, data.w)


def compiled(case: Case, data: Data) -> Step | None:
    """torch.compile of the published formula: several baskets would break its graph at every basket."""
    if not _one_label_space(case) or _too_large(case, data):
        return None
    formula = torch.compile(published)
    return _gradients(lambda: formula(data.x, data.w, data.labels, case.margin), data.x, data.w)


def published(x: Tensor, w: Tensor, labels: Tensor, margin: float) -> Tensor:
    """ArcFace as its authors' code has it: B x C logits, the margin at the target, cross entropy."""
    cos = product(F.normalize(x.to(w.dtype)), F.normalize(w), x.dtype)
    target = labels[:, None]
    theta = torch.arccos(cos.gather(1, target).clamp(-1 + 1e-7, 1 - 1e-7))
    return F.cross_entropy(SCALE * cos.scatter(1, target, torch.cos(theta + margin)), labels)


def insightface_formula(case: Case, data: Data) -> Step | None:
    if not _one_label_space(case) or _too_large(case, data):
        return None
    return _gradients(lambda: published(data.x, data.w, data.labels, case.margin), data.x, data.w)


def chunked(case: Case, data: Data) -> Step | None:
    if not _one_label_space(case) or _too_large(case, data, matrices=0):
        return None
    return _gradients(
        lambda: chunked_arcface(data.x, data.w, data.labels, case.margin, SCALE), data.x, data.w
    )


def metric_learning(case: Case, data: Data) -> Step | None:
    """pytorch-metric-learning's ArcFaceLoss, where installed: one basket; it casts its centres to x's dtype."""
    if not _one_label_space(case) or _too_large(case, data) or not _installed("pytorch_metric_learning"):
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
        x_hat, w_hat = _scaled_and_unit(data)
        # It takes one dtype for both.
        return F.linear_cross_entropy(
            x_hat, w_hat.to(x_hat.dtype), data.labels, options=torch.nn.LinearCrossEntropyOptions()
        )

    return _gradients(forward, data.x, data.w)


def cut_cross_entropy(case: Case, data: Data) -> Step | None:
    """Where it and Triton are installed, no margin either: its kernels for 16 bits on a GPU, else torch.compile.

    Called as its users do: by default its kernels skip blocks of small gradients.
    """
    if (
        not _one_label_space(case)
        or case.margin
        or not (_installed("cut_cross_entropy") and _installed("triton"))
    ):
        return None
    from cut_cross_entropy import linear_cross_entropy as cut

    impl = "cce" if data.x.is_cuda and data.x.dtype != torch.float32 else "torch_compile"
    return _gradients(lambda: cut(*_scaled_and_unit(data), data.labels, impl=impl), data.x, data.w)


def liger(case: Case, data: Data) -> Step | None:
    """Liger's fused product and cross entropy, where installed: Triton kernels for a GPU, no margin, one dtype."""
    if not _one_label_space(case) or case.margin or not data.x.is_cuda or not _installed("liger_kernel"):
        return None
    from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()

    def forward() -> Tensor:
        x_hat, w_hat = _scaled_and_unit(data)
        return loss(w_hat.to(x_hat.dtype), x_hat, data.labels)

    return _gradients(forward, data.x, data.w)


def _scaled_and_unit(data: Data) -> tuple[Tensor, Tensor]:
    """s x / |x| in the dtype of x and w / |w|: a cross entropy over their product is the loss without a margin."""
    return (SCALE * F.normalize(data.x.to(data.w.dtype))).to(data.x.dtype), F.normalize(data.w)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


OURS = "bbs-kernels"
OURS_SGD = "bbs-kernels, fused SGD"
EAGER = "eager PyTorch"
TORCH_COMPILE = "torch.compile"
FORMULA = "insightface's formula"
LOOP = "chunk-over-C loop"
LINEAR = "F.linear_cross_entropy"
CUT = "cut-cross-entropy"
LIGER = "Liger"
PROVIDERS: dict[str, Provider] = {
    OURS: ours,
    "bbs-kernels, whole stash": ours_whole_stash,
    OURS_SGD: ours_fused,
    EAGER: eager,
    TORCH_COMPILE: compiled,
    FORMULA: insightface_formula,
    LOOP: chunked,
    "pytorch-metric-learning": metric_learning,
    LINEAR: linear_cross_entropy,
    CUT: cut_cross_entropy,
    LIGER: liger,
    "eager PyTorch, SGD": then_sgd(eager),
    "torch.compile, SGD": then_sgd(compiled),
}
