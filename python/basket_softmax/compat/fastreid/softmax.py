"""fast-reid's softmax layers (fastreid/layers/any_softmax.py) as margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bbs_kernels import ArcFace, CosFace, MarginContext, NegativeMap

CLS_TYPES = ("ArcSoftmax", "CosSoftmax", "CircleSoftmax")


@dataclass(frozen=True)
class CircleSoftmax:
    """Circle loss with class labels: a target at c counts as a_p * (c - (1 - m)), a negative as a_n * (c - m).

    a_p = max(0, 1 + m - c) and a_n = max(0, c + m) weigh each by how far it is from where it should be, and are
    constants for autograd. Changes the negatives, so it is computed block by block (see `bbs_kernels.NegativeMap`).

    Args:
        margin: m.

    Source: Sun et al., "Circle Loss", CVPR 2020, section 3; as fast-reid's CircleSoftmax has it.
    """

    margin: float = 0.25

    def __call__(self, cos_t: Tensor) -> Tensor:
        """The target logit over s, [B], for cos_t [B]."""
        weight = (1.0 + self.margin - cos_t.detach()).clamp_min(0.0)
        return weight * (cos_t - (1.0 - self.margin))

    def negatives(self, cos_t: Tensor, ctx: MarginContext) -> NegativeMap:
        """a_n * (c - m)."""
        return NegativeMap(self._negative)

    def _negative(self, cos: Tensor) -> Tensor:
        return (cos.detach() + self.margin).clamp_min(0.0) * (cos - self.margin)


def margin_of(cls_type: str, margin: float) -> Any:
    """The margin object of a fast-reid softmax layer, cos(theta + m) without a boundary at pi as it has it.

    Raises:
        ValueError: another layer. `Linear` is no cosine: its logits are unnormalised products.
    """
    if cls_type == "ArcSoftmax":
        return ArcFace(margin, boundary="none")
    if cls_type == "CosSoftmax":
        return CosFace(margin)
    if cls_type == "CircleSoftmax":
        return CircleSoftmax(margin)
    also = "; Linear has unnormalised logits, which are not cosines" if cls_type == "Linear" else ""
    raise ValueError(f"cls_type: expected one of {', '.join(map(repr, CLS_TYPES))}, got {cls_type!r}{also}")
