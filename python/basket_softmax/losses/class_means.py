"""First centres of a new basket: the mean direction of each of its classes, over one pass through its data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bbs_kernels.normalize import ZERO_NORM
from bbs_kernels.ops.placement import on_device
from bbs_kernels.validate import check_floating, class_indices

from .arguments import checked_size

if TYPE_CHECKING:
    from .centres import ClassCentres


class ClassMeans:
    """Running sums of unit embeddings per class, of a basket that is about to join `loss`.

        means = bs.ClassMeans(loss, size=360232)
        with torch.no_grad():
            for images, labels in first_epoch:
                means.update(backbone(images), labels)
        loss.add_basket("glint", 360232, init=means, optimizer=optimizer)

    Under the loss's process group a rank keeps the sums of the classes that it will own, and nothing else.

    Args:
        loss: the head, as it is before `add_basket`.
        size: classes of the new basket.

    Raises:
        ValueError: `size` is not an int >= 0, or `loss` has sub-centres: those that start alike would stay alike.
        RuntimeError: FSDP holds the head.
    """

    def __init__(self, loss: ClassCentres, size: int) -> None:
        self.size = size = checked_size(size)
        if loss.subcenters > 1:
            raise ValueError(
                f"loss: expected subcenters = 1, as sub-centres that start alike stay so, got {loss.subcenters}"
            )
        self._ranks = None if loss.placement is None else loss.placement.ranks
        self._common = {"baskets": loss.baskets.as_dict(), "size": size}
        growth = loss.growth(size, "ClassMeans")
        self.first, rows = growth.first, growth.new.stop - growth.new.start
        self.num_classes = loss.num_classes
        # One row more takes what belongs to other ranks or to nobody, so that no step depends on the data.
        self._sums = loss.weight.detach().new_zeros((rows + 1, loss.embedding_size))
        self._counts = torch.zeros(rows + 1, dtype=torch.int64, device=loss.weight.device)

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, ignore_index: int = -1) -> None:
        """Add a batch; under a process group every rank brings its own, all of them together.

        Args:
            embeddings: [B, D], any floating dtype. Rows that are zero or not finite are left out.
            labels: [B] from 0 to size - 1, any integer dtype, or `ignore_index`.

        Raises:
            TypeError: embeddings or labels of another dtype, or no tensors.
            ValueError: another shape, or (on the CPU) a label out of range.
            Under a process group every rank raises what is wrong on one.
        """
        try:
            labels = self._checked(embeddings, labels)
        except (TypeError, ValueError) as problem:
            if self._ranks is not None:
                self._ranks.row_counts(0, False, self._counts.device, problem, common=self._common)
            raise
        x = embeddings.detach().to(self._sums.dtype)
        if self._ranks is not None:
            counts = self._ranks.row_counts(len(x), False, x.device, common=self._common).counts
            x, labels = self._ranks.gather_rows(x, counts), self._ranks.gather_rows(labels, counts)
        # After the gathering, so that every rank raises or none.
        outside = (labels != ignore_index) & ((labels < 0) | (labels >= self.size))
        if not on_device(labels) and bool(outside.any()):
            raise ValueError(
                f"labels: expected 0 to {self.size - 1} or {ignore_index}, got {int(labels[outside][0])}"
            )
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        rows = len(self._counts) - 1
        local = labels - self.first
        used = (
            (labels != ignore_index)
            & (local >= 0)
            & (local < rows)
            & ((norm >= ZERO_NORM) & norm.isfinite())[:, 0]
        )
        index = torch.where(used, local, rows)
        self._sums.index_add_(0, index, torch.where(used[:, None], x / norm, 0.0))
        self._counts.index_add_(0, index, used.long())

    def _checked(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`labels` as int64, checked beside `embeddings` but for their values."""
        check_floating("embeddings", embeddings)
        labels, depth = class_indices(labels), self._sums.shape[1]
        if embeddings.dim() != 2 or embeddings.shape[1] != depth or labels.shape != embeddings.shape[:1]:
            raise ValueError(
                f"embeddings, labels: expected shapes [B, {depth}] and [B], got {tuple(embeddings.shape)} and "
                f"{tuple(labels.shape)}"
            )
        return labels

    def rows(self, fallback: Tensor) -> Tensor:
        """The centres of this rank's classes, [rows, D], as long as freshly drawn ones are on average.

        Args:
            fallback: [rows, D]: what a class gets of which no embedding came, or whose mean has no direction.
        """
        norm = torch.linalg.vector_norm(self._sums[:-1], dim=1, keepdim=True)
        known = (self._counts[:-1, None] > 0) & (norm > 1e-6)
        length = 0.01 * math.sqrt(self._sums.shape[1])
        return torch.where(known, self._sums[:-1] * (length / norm), fallback)

    @property
    def counts(self) -> Tensor:
        """How many embeddings came of each of this rank's classes."""
        return self._counts[:-1]
