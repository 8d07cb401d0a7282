"""fast-reid's softmax layers (fastreid/layers/any_softmax.py) as margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bbs_kernels import ArcFace, CosFace, MarginContext, NegativeMap
from bbs_kernels.validate import angle, finite

CLS_TYPES = ("ArcSoftmax", "CosSoftmax", "CircleSoftmax")


@dataclass(frozen=True)
class CircleSoftmax:
    """Circle loss with class labels: a target at c counts as a_p * (c - (1 - m)), a negative as a_n * (c - m).

    a_p = max(0, 1 + m - c) and a_n = max(0, c + m) weigh each by how far it is from where it should be, and are
    constants for autograd. Changes the negatives, so it is computed block by block (see `bbs_kernels.NegativeMap`).

    Args:
        margin: m.

    Raises:
        TypeError, ValueError: `margin` is not a finite number.

    Source: Sun et al., "Circle Loss", CVPR 2020, section 3; as fast-reid's CircleSoftmax has it.
    """

    margin: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", finite("CircleSoftmax", "margin", self.margin))

    def __call__(self, cos_t: Tensor) -> Tensor:
        """The target logit over s, [B], for cos_t [B]."""
        weight = (1.0 + self.margin - cos_t.detach()).clamp_min(0.0)
        return weight * (cos_t - (1.0 - self.margin))

    def negatives(self, cos_t: Tensor, ctx: MarginContext) -> NegativeMap:
        """a_n * (c - m)."""
        return NegativeMap(self._negative)

    def _negative(self, cos: Tensor) -> Tensor:
        return (cos.detach() + self.margin).clamp_min(0.0) * (cos - self.margin)


def margin_of(cls_type: str, margin: float, owner: str = "margin_of") -> Any:
    """The margin object of a fast-reid softmax layer, cos(theta + m) without a boundary at pi as it has it.

    Args:
        owner: whose arguments they are, for messages.

    Raises:
        TypeError, ValueError: a margin that the layer does not take, or another layer. `Linear` is no cosine: its
            logits are unnormalised products.
    """
    if cls_type == "ArcSoftmax":
        return ArcFace(angle(owner, "margin", margin), boundary="none")
    if cls_type == "CosSoftmax":
        return CosFace(finite(owner, "margin", margin))
    if cls_type == "CircleSoftmax":
        return CircleSoftmax(finite(owner, "margin", margin))
    also = "; Linear has unnormalised logits, which are not cosines" if cls_type == "Linear" else ""
    raise ValueError(f"cls_type: expected one of {', '.join(map(repr, CLS_TYPES))}, got {cls_type!r}{also}")
