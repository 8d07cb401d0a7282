"""CombinedMarginLoss, ArcFace and CosFace as insightface has them: scale and margin in one object.

Two uses: handed to `PartialFC_V2`, which reads their parameters and never builds logits; or called on a
logits tensor of your own. The margin is psi = cos(m1*theta + m2) - m3 without a boundary at phi = pi, and its
slope is taken as 1 (straight through), since insightface computes it outside autograd.
Different from insightface: the logits tensor is not changed in place; values outside [-1, 1] give finite
numbers; m3 > 0 beside m1 or m2 means all of them (insightface then applies m3 alone), with a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from bbs_kernels.margins import CombinedMargin, check_coefficients
from bbs_kernels.ops.placement import on_device
from bbs_kernels.validate import check_scale

from .._head import class_indices

IGNORED = -1


class MarginLoss(nn.Module):
    """Base: scale `s` and a margin, applied to a logits tensor. No parameters, an empty state_dict."""

    s: float
    _arguments = ("m1", "m2", "m3")  # names of the coefficients, for messages

    def _check(self) -> None:
        # A value out of range is an error here, not in the first step.
        self.checked_scale()
        self.target_margin()

    def checked_scale(self) -> float:
        """s, read from the attribute and checked."""
        check_scale(self.s, f"{type(self).__name__}: s")
        return float(self.s)

    def coefficients(self) -> tuple[float, float, float]:
        """(m1, m2, m3), read from the attributes, so that a margin schedule may assign them."""
        raise NotImplementedError

    def target_margin(self) -> CombinedMargin:
        """psi(cos_t) with the slope 1, for a loss that needs no logits."""
        m1, m2, m3 = self.coefficients()
        check_coefficients(type(self).__name__, (m1, m2, m3), self._arguments)
        return CombinedMargin(m1, m2, m3, boundary="none", target_grad="straight_through")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """s * logits with the margin on each target: a new tensor [B, C]; 16-bit logits give fp32.

        Args:
            logits: [B, C] cosines.
            labels: [B] or [B, 1] class indices; -1: a row without target, only scaled.
        """
        labels = flat_labels(labels, len(logits), type(self).__name__)
        if logits.dtype.itemsize == 2:  # an angle in half precision has lost the margin
            logits = logits.float()
        used = labels != IGNORED
        index = torch.where(used, labels, 0).unsqueeze(1)
        target = logits.gather(1, index)
        psi = torch.where(used.unsqueeze(1), self.target_margin()(target), target)
        return logits.scatter(1, index, psi) * self.s

    def extra_repr(self) -> str:
        m1, m2, m3 = self.coefficients()
        return f"s={self.s}, m1={m1}, m2={m2}, m3={m3}"


class CombinedMarginLoss(MarginLoss):
    """psi = cos(m1*theta + m2) - m3 (Deng et al. 2019, eq. 4), theta in radians.

    Args:
        s: scale, > 0.
        m1, m2, m3: factor of the angle (> 0), added angle in [0, pi), subtracted cosine.
        interclass_filtering_threshold: 0. Leaving similar classes out of the negatives is the mining rule
            `basket_softmax.Below(basket_softmax.Absolute(t))` of `BasketSoftmaxLoss` here; the published form, which
            gives them cosine 0, is its margin `basket_softmax.InterclassFilter`.

    Raises:
        ValueError: a value out of range, or a threshold above 0.
    """

    def __init__(
        self, s: float, m1: float, m2: float, m3: float, interclass_filtering_threshold: float = 0
    ) -> None:
        super().__init__()
        if interclass_filtering_threshold > 0:
            raise ValueError(
                f"CombinedMarginLoss: interclass_filtering_threshold={interclass_filtering_threshold} is not "
                "supported; use BasketSoftmaxLoss with mining=bs.Below(bs.Absolute(t)), which leaves classes "
                "of other baskets with a cosine above t out of the negatives, or with the published form, "
                "margin=bs.InterclassFilter(t, margin)"
            )
        self.s, self.m1, self.m2, self.m3 = s, m1, m2, m3
        self.interclass_filtering_threshold = interclass_filtering_threshold
        self._check()
        if m3 > 0 and (m1 != 1.0 or m2 != 0.0):
            warnings.warn(
                f"CombinedMarginLoss: m1={m1}, m2={m2}, m3={m3} are all applied here; insightface applies m3 "
                "alone when it is > 0. For its result use m1=1, m2=0.",
                stacklevel=2,
            )

    def coefficients(self) -> tuple[float, float, float]:
        return self.m1, self.m2, self.m3


class ArcFace(MarginLoss):
    """psi = cos(theta + margin); `s` the scale, `margin` in radians, in [0, pi)."""

    _arguments = ("m1", "margin", "m3")

    def __init__(self, s: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        self.s, self.margin = s, margin
        self._check()

    def coefficients(self) -> tuple[float, float, float]:
        return 1.0, self.margin, 0.0


class CosFace(MarginLoss):
    """psi = cos(theta) - m; `s` the scale."""

    _arguments = ("m1", "m2", "m")

    def __init__(self, s: float = 64.0, m: float = 0.40) -> None:
        super().__init__()
        self.s, self.m = s, m
        self._check()

    def coefficients(self) -> tuple[float, float, float]:
        return 1.0, 0.0, self.m


def flat_labels(labels: Tensor, rows: int, owner: str) -> Tensor:
    """[B] int64 from [B] or [B, 1], a view or a copy: the caller's tensor keeps its shape and values."""
    labels = class_indices(labels, f"{owner}: labels")
    if labels.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"{owner}: labels: expected [{rows}] or [{rows}, 1], got {list(labels.shape)}")
    return labels.reshape(-1)


def truncated(labels: Any, name: str) -> Any:
    """Return bool and floating-point labels as int64, cut as insightface's `.long()` cuts them; others as they came.

    A label that is not finite becomes a class that does not exist: `.long()` may make class 0 of it on a GPU.

    Raises:
        ValueError: a label that is not finite, on the CPU; `name` is what the message calls the labels.
    """
    if not isinstance(labels, Tensor):
        return labels
    if not labels.is_floating_point():
        return labels.long()
    known = labels.isfinite()
    if not torch.compiler.is_compiling() and not on_device(labels) and not bool(known.all()):
        got = labels[~known][0].item()
        raise ValueError(f"{name}: expected class indices, got {got}")
    return torch.where(known, labels, 0).long().masked_fill(~known, torch.iinfo(torch.int64).min)
