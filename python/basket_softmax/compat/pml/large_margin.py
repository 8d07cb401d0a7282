"""What the losses of this package share: pytorch-metric-learning's constructor, compute_loss and get_logits.

W is [D, C], as there; the kernel reads its transpose without a copy. Different on purpose: W never changes
its dtype or device in forward (upstream casts it to the embeddings' dtype, and leaves it so); the loss of
16-bit embeddings is computed and returned in fp32; there is no B x C tensor; miner weights do not wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bbs_kernels.margins import arccos
from bbs_kernels.validate import check_scale, positive_int

from ...losses.fsdp import gathered
from .._head import check_device, class_indices, row_losses
from .constants import constant
from .distance import check_distance, keep_norms
from .hooks import default_hook, ignored_label, is_default, refuse_hooks
from .metric_loss import MetricLoss
from .miners import row_weights
from .reducing import LossDict, element_loss, zero_where_upstream_rounds

_LEARN_SCALE = "to learn it, keep pytorch_metric_learning's loss; to ramp it, assign a number in every step"


class LargeMarginLoss(MetricLoss):
    """Base of the losses.

    Args:
        num_classes, embedding_size: C and D, both > 0.
        margin: as the subclass needs it.
        scale: s > 0, a number (no gradient is computed for it).
        weight_init_func: called with W; default N(0, 1).
        weight_regularizer: regularizer(W.t()) -> scalar, times `weight_reg_weight`, is added to the loss.
        embedding_regularizer: regularizer(embeddings) -> scalar, times `embedding_reg_weight`.
        reducer: None (mean over the batch) or a reducer of pytorch-metric-learning, or any callable
            reducer(loss_dict, embeddings, labels).
        distance: None or a CosineSimilarity with p = 2 and power = 1: these losses are defined on cosines.
        collect_stats: True keeps `avg_angle`, the mean target angle in degrees; None asks pytorch-metric-learning's
            global `COLLECT_STATS`. A step waits for the device only if `distance` collects statistics too, as it
            does under the global switch.

    Attributes:
        sub_centers: centres of a class, adjacent columns of W; a subclass with several sets it before this __init__.

    A subclass may override pytorch-metric-learning's hooks, but for `get_cosine`, `get_target_mask` and
    `scale_logits`, which act on [B, C] logits that do not exist here.

    Raises:
        TypeError, ValueError: an argument is not of these; the message says what is supported.
            TypeError also where a subclass is created that overrides one of the three hooks.
    """

    sub_centers: int = 1
    _centres = "W"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.compute_loss is LargeMarginLoss.compute_loss:  # who overrides that may call the hooks there
            refuse_hooks(cls.__name__, cls)

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float,
        scale: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        num_classes = positive_int(f"{owner}: num_classes", num_classes)
        embedding_size = positive_int(f"{owner}: embedding_size", embedding_size)
        check_scale(constant(owner, "scale", scale, _LEARN_SCALE), f"{owner}: scale")
        self.margin = margin
        self.num_classes = num_classes
        self.scale = scale
        self._avg_angle: Tensor | float = 0.0
        self.add_to_recordable_attributes(list_of_names=["num_classes", "margin", "scale"])
        self.add_to_recordable_attributes(name="avg_angle", is_stat=True)
        self.init_margin()
        if is_default(self, "modify_cosine_of_target_classes"):
            self.target_margin()  # a margin out of range is an error here, not in the first step
        self.W = nn.Parameter(torch.empty(embedding_size, num_classes * self.sub_centers))
        self.weight_init_func(self.W)
        self.cross_entropy = nn.CrossEntropyLoss(reduction="none")

    @property
    def avg_angle(self) -> float:
        """Mean target angle of the last batch in degrees, if statistics are collected; reading waits for the device."""
        return float(self._avg_angle)

    @avg_angle.setter
    def avg_angle(self, value: Tensor | float) -> None:
        self._avg_angle = value

    def init_margin(self) -> None:
        """Turn the attribute `margin` from the constructor's unit into that of the formula."""

    def target_margin(self) -> Callable[[Tensor], Tensor]:
        """The margin psi(cos_t), from the attribute `margin`."""
        raise NotImplementedError

    @default_hook
    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        """[B] target cosines, fp32 or fp64, with the margin applied."""
        if self.collect_stats:
            with torch.no_grad():
                self.get_angles(cosine_of_target_classes)
        return self.target_margin()(cosine_of_target_classes)

    @default_hook
    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """[B] angles in radians, with finite gradients at 0 and pi; their mean becomes `avg_angle`."""
        angles = arccos(cosine_of_target_classes)
        if self.collect_stats:
            self.avg_angle = angles.detach().mean().rad2deg()
        return angles

    def cast_types(self, dtype: torch.dtype, device: torch.device) -> None:
        """Called before every step with those of the embeddings; W stays as it is."""

    @default_hook
    def compute_loss(
        self, embeddings: Tensor, labels: Any, indices_tuple: Any, ref_emb: Any, ref_labels: Any
    ) -> LossDict:
        """The sub-losses: "loss", [B] values in fp32 (fp64 for fp64), and that of the weight regularizer.

        Raises:
            TypeError, ValueError: as `forward`; a hook or `cross_entropy` was replaced that the kernels cannot honour.
        """
        owner = type(self).__name__
        refuse_hooks(owner, self)
        check_distance(owner, self.distance)
        targets = self.checked_labels(embeddings, labels)
        if targets is None:
            raise ValueError(f"{owner}: labels are required")
        if ref_emb is not None and (ref_emb is not embeddings or ref_labels is not labels):
            raise ValueError(
                f"{owner}: ref_emb is not supported, the centres W are what embeddings are compared with"
            )
        self.cast_types(embeddings.dtype, embeddings.device)
        check_device(owner, "W", self.W, embeddings)
        self.distance.reset_stats()
        keep_norms(self.distance, embeddings, self.W.t())
        x, w = self._operands(embeddings)
        losses, _ = row_losses(
            x, w, targets, margin=self._psi, scale=float(constant(owner, "scale", self.scale, _LEARN_SCALE)),
            ignore_index=ignored_label(owner, self.cross_entropy), subcenters=self.sub_centers,
        )  # fmt: skip
        losses = zero_where_upstream_rounds(losses)
        if indices_tuple is not None:
            losses = losses * row_weights(indices_tuple, targets, losses.dtype)
        loss_dict: LossDict = {"loss": element_loss(losses)}
        self.add_weight_regularization_to_loss_dict(loss_dict, self.W.t())
        return loss_dict

    @default_hook
    def get_cosine(self, embeddings: Tensor) -> Tensor:
        """[B, C] cosines, of the nearest sub-centres; differentiable. No step calls it."""
        self._check_embeddings(embeddings)
        check_device(type(self).__name__, "W", self.W, embeddings)
        dtype = torch.promote_types(embeddings.dtype, self.W.dtype)
        cosine: Tensor = self.distance(embeddings.to(dtype), gathered(self.W).to(dtype).t())
        return cosine if self.sub_centers == 1 else cosine.unflatten(1, (-1, self.sub_centers)).amax(2)

    @default_hook
    def scale_logits(self, logits: Tensor, *_: Any) -> Tensor:
        """`logits` times `scale`."""
        return logits * self.scale

    @default_hook
    def get_target_mask(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """[B, C] ones at the targets, zeros elsewhere, in the dtype of the embeddings."""
        mask = embeddings.new_zeros(len(labels), self.num_classes)
        return mask.scatter_(1, labels[:, None].long(), 1.0)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """[B, C] scaled cosines, of the nearest sub-centres, without the margin; differentiable.

        This one does hold a B x C tensor. Under fully_shard every rank calls it.
        """
        return self.scale_logits(self.get_cosine(embeddings), embeddings)

    def extra_repr(self) -> str:
        centres = "" if self.sub_centers == 1 else f", sub_centers={self.sub_centers}"
        margin = f"{self.margin:.6g}" if isinstance(self.margin, (int, float)) else type(self.margin).__name__
        return (
            f"num_classes={self.num_classes}, embedding_size={self.W.shape[0]}, margin={margin}, "
            f"scale={self.scale}{centres}"
        )

    def _psi(self, cos_t: Tensor) -> Tensor:
        psi = self.modify_cosine_of_target_classes(cos_t)
        if psi.shape != cos_t.shape:  # [B, 1] would broadcast to [B, B]
            raise ValueError(
                f"{type(self).__name__}.modify_cosine_of_target_classes: expected {list(cos_t.shape)}, one cosine per "
                f"row, got {list(psi.shape)}"
            )
        return psi

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
            raise ValueError(f"{owner}: embeddings: expected [B, {size}], got {list(embeddings.shape)}")
        if not embeddings.is_floating_point():
            raise TypeError(f"{owner}: embeddings: expected a floating-point dtype, got {embeddings.dtype}")

    def checked_labels(self, embeddings: Tensor, labels: Tensor | None) -> Tensor | None:
        """Labels as int64 on the device of the embeddings, after every check that needs no values; None stays."""
        owner = type(self).__name__
        self._check_embeddings(embeddings)
        if labels is None:
            return None
        labels = class_indices(labels, f"{owner}: labels")
        if labels.shape != embeddings.shape[:1]:
            raise ValueError(f"{owner}: labels: expected [{len(embeddings)}], got {list(labels.shape)}")
        return labels.to(embeddings.device)
