"""The one computation behind every replacement: the margin softmax of one label space, one number per row.

loss_i = log(1 + exp(lse_i - s*psi(c_t[i]))), lse over the negatives only, so that a well-classified row keeps
its digits where `cross_entropy` over B x C logits has lost them, and no B x C tensor exists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bbs_kernels import functional
from bbs_kernels.rules import Own
from bbs_kernels.validate import class_indices

__all__ = ["check_device", "class_indices", "round_to_zero", "row_losses"]


def row_losses(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    *,
    margin: Callable[[Tensor], Tensor],
    scale: float,
    ignore_index: int,
    class_index: Tensor | None = None,
    subcenters: int = 1,
) -> tuple[Tensor, Tensor]:
    """(losses, cos_t), each [B], fp32 (fp64 for fp64); 0 at ignored rows.

    Args:
        x: [B, D] embeddings; w: [C * subcenters, D] centres, any strides, the dtype of `x` or fp32 with a 16-bit `x`.
        labels: [B] int64 in [0, C), or `ignore_index`.
        margin: psi = margin(cos_t).
        scale: s > 0.
        class_index: [S] ascending classes that take part (Partial FC), all when None.
    """
    offsets = torch.tensor([0, w.shape[0] // subcenters], device="cpu")
    lse, cos_t, _, _ = functional.cos_lse(
        x, w, labels, offsets, scale=scale, mining=Own(), ignore_index=ignore_index, class_index=class_index,
        subcenters=subcenters,
    )  # fmt: skip
    return functional.row_losses(lse, margin(cos_t), scale=scale), cos_t


def round_to_zero(losses: Tensor) -> Tensor:
    """Return [B] bool: the rows whose loss is 0 in a dense cross entropy, up to half an ulp of 1 (2^-24 in fp32).

    There a loss is log(1 + r) with r summed onto the 1 of the target, so it is 0 where 1 + r rounds to 1.
    """
    return losses.detach() <= torch.finfo(losses.dtype).eps / 2


def check_device(module: str, parameter: str, w: Tensor, x: Tensor) -> None:
    """Instead of an op's device mismatch: the parameter is never moved behind the optimiser's back."""
    if w.device != x.device:
        raise ValueError(
            f"{module}: {parameter} is on {w.device}, the embeddings on {x.device}; "
            f"call .to({str(x.device)!r}) on the loss"
        )
