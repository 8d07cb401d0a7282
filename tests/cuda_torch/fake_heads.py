"""Heads on fake CUDA tensors, each with a batch: what the tests of eager and of compiled steps share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import basket_softmax as bs
from basket_softmax.compat import fastreid, insightface, pml

SIZES = {"a": 30, "empty": 0, "b": 20, "c": 1}
CLASSES, WIDTH, ROWS = 51, 16, 11
REAL = bs.Baskets(SIZES)  # made outside of every fake mode: the host reads its offsets


def lowered(cos_t: Tensor) -> Tensor:
    """A margin without state, as a user writes one."""
    return cos_t - 0.2


def of_norms(cos_t: Tensor, ctx: bs.MarginContext) -> Tensor:
    """A margin that looks at the norms."""
    return cos_t - 0.01 * ctx.norms


FUSED: dict[str, Callable[[], Any]] = {
    "ArcFace": bs.ArcFace,
    "CosFace": bs.CosFace,
    "CombinedMargin": bs.CombinedMargin,
    "SphereFace": lambda: bs.SphereFace(1.4),
    "callable": lambda: lowered,
    "callable with context": lambda: of_norms,
    "AdaFace": bs.AdaFace,
    "MagFace": bs.MagFace,
}
MAPPED: dict[str, Callable[[], Any]] = {  # margins that map negatives
    "ASoftmax": bs.ASoftmax,
    "CurricularFace": bs.CurricularFace,
    "InterclassFilter": lambda: bs.InterclassFilter(0.4),
}
RULES = {
    str(rule): rule
    for rule in (
        bs.Own(), bs.All(), bs.Below(bs.Absolute(0.2)), bs.Below(bs.Relative(0.1)), bs.Below(bs.Ema(0.5)),
        bs.TopK(5), bs.TopK(5, 0, bs.Absolute(0.2)), bs.TopK(3, 2, bs.Relative(0.1)), bs.TopK(3, 1, bs.Ema(0.5)),
    )
}  # fmt: skip
DTYPES = {
    "fp32": (torch.float32, None),
    "bf16": (torch.bfloat16, None),
    "fp16": (torch.float16, None),
    "autocast bf16": (torch.float32, torch.bfloat16),
    "autocast fp16": (torch.float32, torch.float16),
}
SINGLE: dict[str, Callable[..., nn.Module]] = {
    kind.__name__: kind
    for kind in (
        bs.ArcFaceLoss, bs.CosFaceLoss, bs.CombinedMarginLoss, bs.SphereFaceLoss, bs.AdaFaceLoss, bs.MagFaceLoss,
        bs.CurricularFaceLoss,
    )
}  # fmt: skip


def partial_fc(**options: Any) -> nn.Module:
    """insightface's head."""
    return insightface.PartialFC_V2(
        insightface.CombinedMarginLoss(64.0, 1.0, 0.5, 0.0), WIDTH, CLASSES, **options
    )


COMPAT: dict[str, Callable[[], nn.Module]] = {
    "pml.ArcFaceLoss": lambda: pml.ArcFaceLoss(CLASSES, WIDTH),
    "pml.CosFaceLoss": lambda: pml.CosFaceLoss(CLASSES, WIDTH),
    "pml.SubCenterArcFaceLoss": lambda: pml.SubCenterArcFaceLoss(CLASSES, WIDTH),
    "insightface.PartialFC_V2": partial_fc,
    "insightface.PartialFC_V2 fp16": lambda: partial_fc(fp16=True),
}


def on_cuda(make: Callable[[], Any]) -> Any:
    """What `make` makes, its parameters and buffers on CUDA."""
    with torch.device("cuda"):
        return make()


def head(**options: Any) -> bs.BasketSoftmaxLoss:
    """A head over `SIZES` on CUDA, made inside a fake mode."""
    with torch.device("cuda"):
        loss = bs.BasketSoftmaxLoss(REAL, WIDTH, **options)
    loss.baskets = REAL
    return loss


def fast_reid(cls_type: str) -> fastreid.EmbeddingHead:
    """fast-reid's head over `SIZES`."""
    with torch.device("cuda"):
        made = fastreid.EmbeddingHead(
            feat_dim=WIDTH, num_classes=CLASSES, cls_type=cls_type, scale=64.0, margin=0.3, with_bnneck=True,
            baskets=REAL,
        )  # fmt: skip
    made.baskets = REAL
    return made


def batch(dtype: torch.dtype, shape: tuple[int, ...] = (ROWS, WIDTH)) -> tuple[Tensor, Tensor]:
    """Embeddings that require a gradient, and global labels, both on CUDA."""
    x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
    return x, torch.randint(CLASSES, (shape[0],), device="cuda")
