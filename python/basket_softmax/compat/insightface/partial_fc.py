"""PartialFC_V2 (An et al. 2022, arXiv 2203.15565) with insightface's signature; one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bbs_kernels.functional import reduce_rows

from ...losses.sampling import sample_classes
from .._head import check_device, row_losses
from .margins import IGNORED, MarginLoss, flat_labels


class PartialFC_V2(nn.Module):
    """Class centres and the margin softmax over them.

    state_dict: `weight` [num_local, D], as a rank of insightface has it.

    Args:
        margin_loss: `CombinedMarginLoss`, `ArcFace` or `CosFace` of this package; its parameters are read at
            each step.
        embedding_size, num_classes: D and C, both > 0.
        sample_rate: (0, 1]: below 1 each step takes the classes of the batch and as many others, drawn
            uniformly, as make up this share. The gradient of `weight` is dense, as insightface's, so that any
            optimiser works; `BasketSoftmaxLoss(sample_rate=...)` with `FusedSGD` has no such gradient.
        fp16: False: the arithmetic of the weight's dtype (fp32), whatever autocast says. True: embeddings are
            normalised in fp32, then both operands are rounded to fp16, with fp32 accumulation; loss, weight
            and its gradient stay fp32. As insightface's flag.

    Raises:
        TypeError, ValueError, NotImplementedError: an argument is not of these, or the process group has more
            than one rank.

    Different from insightface: no process group is needed; the label tensor is not squeezed in place; the
    batch size may change between steps; rows labelled -1 take no part, in the mean neither (there each of
    them adds log(1e30) = 69.08 and pushes all centres); a row's loss is not capped at 69.08; cosines are not
    clamped, so a gradient passes where rounding puts one beyond +-1.
    """

    _version = 2

    def __init__(
        self,
        margin_loss: MarginLoss,
        embedding_size: int,
        num_classes: int,
        sample_rate: float = 1.0,
        fp16: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(margin_loss, MarginLoss):
            raise TypeError(
                "PartialFC_V2: margin_loss must be CombinedMarginLoss, ArcFace or CosFace of "
                f"basket_softmax.compat.insightface, got {margin_loss!r}; for a margin of your own use "
                "BasketSoftmaxLoss(margin=...), a function of the target cosine"
            )
        for name, size in (("num_classes", num_classes), ("embedding_size", embedding_size)):
            if size < 1:
                raise ValueError(f"PartialFC_V2: {name} must be > 0, got {size}")
        if not 0.0 < sample_rate <= 1.0:
            raise ValueError(f"PartialFC_V2: sample_rate must be in (0, 1], got {sample_rate}")
        _check_single_process()
        self.rank, self.world_size = 0, 1
        self.embedding_size = embedding_size
        self.sample_rate = float(sample_rate)
        self.fp16 = fp16
        self.num_local, self.class_start = num_classes, 0
        self.num_sample = int(self.sample_rate * num_classes)
        self.margin_softmax = margin_loss
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size).normal_(0, 0.01))

    def forward(self, local_embeddings: Tensor, local_labels: Tensor) -> Tensor:
        """The mean loss over the rows that are not ignored, a scalar; 0, attached to the graph, without any.

        Args:
            local_embeddings: [B, D], floating-point.
            local_labels: [B] or [B, 1] class indices in [0, C); -1 is ignored.
        """
        _check_single_process()
        if local_embeddings.dim() != 2 or local_embeddings.shape[1] != self.embedding_size:
            raise ValueError(
                f"PartialFC_V2: embeddings must be [B, {self.embedding_size}], "
                f"got {list(local_embeddings.shape)}"
            )
        check_device("PartialFC_V2", "weight", self.weight, local_embeddings)
        labels = flat_labels(local_labels, len(local_embeddings), "PartialFC_V2").to(local_embeddings.device)
        # The flag decides the arithmetic, not the surrounding autocast, as in insightface.
        with torch.autocast(local_embeddings.device.type, enabled=False):
            x = local_embeddings.to(self.weight.dtype)
            if self.fp16:
                # Normalised first: fp16 would overflow on large embeddings and underflow in their gradients.
                # Ignored rows are cut out, or a NaN there would come back through the normalisation.
                x = F.normalize(torch.where((labels != IGNORED)[:, None], x, 0.0)).half()
            weight, class_index = self.weight, None
            if self.sample_rate < 1.0:
                weight = _DenseGradient.apply(weight)
                class_index = sample_classes(labels, self.num_local, self.sample_rate, IGNORED)
            losses, _ = row_losses(
                x,
                weight,
                labels,
                margin=self.margin_softmax.target_margin(),
                scale=float(self.margin_softmax.s),
                ignore_index=IGNORED,
                class_index=class_index,
            )
        return reduce_rows(losses, labels != IGNORED)

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_local}, embedding_size={self.embedding_size}, "
            f"sample_rate={self.sample_rate}, fp16={self.fp16}"
        )


class _DenseGradient(torch.autograd.Function):
    """The same tensor; a sparse gradient (sampled rows) becomes dense on its way back."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        return w.view_as(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].to_dense()


def _check_single_process() -> None:
    group = torch.distributed
    if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
        raise NotImplementedError(
            f"PartialFC_V2: the process group has {group.get_world_size()} ranks, but classes are not "
            "sharded yet: this version supports one process (no process group, or a world size of 1)"
        )
