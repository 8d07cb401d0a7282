"""What the losses of this package share: pytorch-metric-learning's constructor, forward and get_logits.

W is [D, C], as there; the kernel reads its transpose without a copy. Different on purpose: W never changes
its dtype or device in forward (upstream casts it to the embeddings' dtype, and leaves it so); the loss of
16-bit embeddings is computed and returned in fp32; a tiny loss is not rounded to 0; there is no B x C tensor;
miner weights and statistics do not wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses.fsdp import gathered
from ...losses.replicated import ReplicatedHead
from .._head import check_device, class_indices, row_losses
from .miners import row_weights
from .reducing import LossDict, element_loss, make_reducer, reduced_loss

IGNORED = -100  # what torch's cross_entropy ignores; such a row has loss 0 and still counts in the mean


class LargeMarginLoss(ReplicatedHead):
    """Base of the losses.

    Args:
        num_classes, embedding_size: C and D, both > 0.
        margin: as the subclass needs it.
        scale: s > 0.
        weight_init_func: called with W; default N(0, 1).
        weight_regularizer: regularizer(W.t()) -> scalar, times `weight_reg_weight`, is added to the loss.
        embedding_regularizer: regularizer(embeddings) -> scalar, times `embedding_reg_weight`.
        reducer: None (mean over the batch) or a reducer of pytorch-metric-learning, or any callable
            reducer(loss_dict, embeddings, labels).
        distance: None or a CosineSimilarity with p = 2 and power = 1: these losses are defined on cosines.
        collect_stats: True keeps `avg_angle`, the mean target angle in degrees, as a device tensor.

    Attributes:
        sub_centers: centres of a class, adjacent columns of W; a subclass with several sets it before this __init__.

    Raises:
        TypeError, ValueError: an argument is not of these; the message says what is supported.
    """

    sub_centers: int = 1
    _centres = "W"

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float,
        scale: float,
        *,
        weight_init_func: Callable[[Tensor], Any] | None = None,
        weight_regularizer: Callable[[Tensor], Tensor] | None = None,
        weight_reg_weight: float = 1,
        embedding_regularizer: Callable[[Tensor], Tensor] | None = None,
        embedding_reg_weight: float = 1,
        reducer: Any = None,
        distance: Any = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, size in (("num_classes", num_classes), ("embedding_size", embedding_size)):
            if size < 1:
                raise ValueError(f"{owner}: {name} must be > 0, got {size}")
        if not scale > 0:
            raise ValueError(f"{owner}: scale must be > 0, got {scale}")
        _check_distance(owner, distance)
        self.num_classes = num_classes
        self.margin = margin
        self.scale = scale
        self.weight_init_func = nn.init.normal_ if weight_init_func is None else weight_init_func
        self.weight_regularizer = weight_regularizer
        self.weight_reg_weight = weight_reg_weight
        self.embedding_regularizer = embedding_regularizer
        self.embedding_reg_weight = embedding_reg_weight
        self.distance = distance
        self.collect_stats = bool(collect_stats)
        self.avg_angle: Tensor | float = 0.0
        self.target_margin()  # a margin out of range is an error here, not in the first step
        self.reducer = make_reducer(reducer, self.sub_loss_names())
        self.W = nn.Parameter(torch.empty(embedding_size, num_classes * self.sub_centers))
        self.weight_init_func(self.W)

    def target_margin(self) -> Callable[[Tensor], Tensor]:
        """The margin psi(cos_t), from the attribute `margin`."""
        raise NotImplementedError

    def sub_loss_names(self) -> list[str]:
        """The keys of the dict that the reducer gets: the loss, and the regularizers that were given."""
        names = ["loss"]
        if self.weight_regularizer is not None:
            names.append("weight_reg_loss")
        if self.embedding_regularizer is not None:
            names.append("embedding_reg_loss")
        return names

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Any:
        """The reduced loss: a scalar, or what the reducer returns.

        Args:
            embeddings: [B, D], fp64, fp32, fp16 or bf16.
            labels: [B] integer class indices in [0, C), required; -100 means no target (loss 0).
            indices_tuple: None, or what a miner returned (triplets or pairs): rows are weighted by how often
                they occur in it, the most frequent with 1, absent ones with 0.
            ref_emb, ref_labels: not supported, as upstream: None or the very same tensors.

        Raises:
            TypeError, ValueError, RuntimeError: shapes, dtypes, devices or labels that do not fit.
        """
        self._check_averaged()
        targets = self._checked(embeddings, labels, ref_emb, ref_labels)
        x, w = self._operands(embeddings)
        losses, cos_t = row_losses(
            x, w, targets, margin=self.target_margin(), scale=float(self.scale), ignore_index=IGNORED,
            subcenters=self.sub_centers,
        )  # fmt: skip
        if self.collect_stats:
            self.avg_angle = cos_t.detach().clamp(-1.0, 1.0).arccos().mean().rad2deg()
        if indices_tuple is not None:
            losses = losses * row_weights(indices_tuple, targets, losses.dtype)
        loss_dict: LossDict = {"loss": element_loss(losses)}
        if self.weight_regularizer is not None:
            penalty = self.weight_regularizer(self.W.t()) * self.weight_reg_weight
            loss_dict["weight_reg_loss"] = reduced_loss(penalty)
        if self.embedding_regularizer is not None:
            penalty = self.embedding_regularizer(embeddings) * self.embedding_reg_weight
            loss_dict["embedding_reg_loss"] = reduced_loss(penalty)
        return self.reducer(loss_dict, embeddings, targets)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """[B, C] scaled cosines, of the nearest sub-centres, without the margin; differentiable.

        This one does hold a B x C tensor. Under fully_shard every rank calls it.
        """
        self._check_embeddings(embeddings)
        dtype = torch.promote_types(embeddings.dtype, self.W.dtype)
        x_hat = F.normalize(embeddings.to(dtype), dim=1)
        logits = x_hat @ F.normalize(gathered(self.W).to(dtype), dim=0) * self.scale
        return logits if self.sub_centers == 1 else logits.unflatten(1, (-1, self.sub_centers)).amax(2)

    def extra_repr(self) -> str:
        centres = "" if self.sub_centers == 1 else f", sub_centers={self.sub_centers}"
        return (
            f"num_classes={self.num_classes}, embedding_size={self.W.shape[0]}, margin={self.margin:.6g}, "
            f"scale={self.scale}{centres}"
        )

    def _operands(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(x, w) in dtypes the op takes; copies only for unusual mixtures, and never into the parameter."""
        w = self.W.t()
        if embeddings.dtype == w.dtype or (w.dtype == torch.float32 and embeddings.dtype.itemsize == 2):
            return embeddings, w
        dtype = torch.promote_types(embeddings.dtype, w.dtype)
        return embeddings.to(dtype), w.to(dtype)

    def _check_embeddings(self, embeddings: Tensor) -> None:
        owner, size = type(self).__name__, self.W.shape[0]
        if embeddings.dim() != 2 or embeddings.shape[1] != size:
            raise ValueError(f"{owner}: embeddings must be [B, {size}], got {list(embeddings.shape)}")
        if not embeddings.is_floating_point():
            raise TypeError(f"{owner}: embeddings must be floating-point, got {embeddings.dtype}")
        check_device(owner, "W", self.W, embeddings)

    def _checked(
        self, embeddings: Tensor, labels: Tensor | None, ref_emb: Tensor | None, ref_labels: Tensor | None
    ) -> Tensor:
        """Labels as int64 on the device of the embeddings, after every check that needs no values."""
        owner = type(self).__name__
        self._check_embeddings(embeddings)
        if labels is None:
            raise ValueError(f"{owner}: labels are required")
        if ref_emb is not None and (ref_emb is not embeddings or ref_labels is not labels):
            raise ValueError(
                f"{owner}: ref_emb is not supported, the centres W are what embeddings are compared with"
            )
        labels = class_indices(labels, f"{owner}: labels")
        if labels.shape != embeddings.shape[:1]:
            raise ValueError(f"{owner}: labels must be [{len(embeddings)}], got {list(labels.shape)}")
        return labels.to(embeddings.device)


def _check_distance(owner: str, distance: Any) -> None:
    if distance is None:
        return
    cosine = any(base.__name__ == "CosineSimilarity" for base in type(distance).__mro__)
    if not cosine or getattr(distance, "p", 2) != 2 or getattr(distance, "power", 1) != 1:
        raise ValueError(
            f"{owner}: distance must be None or CosineSimilarity with p=2 and power=1 (the loss is defined "
            f"on cosines), got {distance!r} with p={getattr(distance, 'p', None)}, "
            f"power={getattr(distance, 'power', None)}"
        )
