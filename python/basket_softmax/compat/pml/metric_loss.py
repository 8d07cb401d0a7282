"""pytorch-metric-learning's protocol of a loss: forward, reducer, regularizers, distance and records, with its hooks.

Every method here is a hook there as well, and an override of it is honoured. What is computed stands in a subclass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .distance import check_distance, default_distance
from .hooks import default_hook
from .records import Records
from .reducing import LossDict, MeanReducer, make_reducer, reduced_loss
from .upstream import upstream_base

if TYPE_CHECKING:
    _Base = nn.Module
else:
    _Base = upstream_base("losses", "BaseMetricLossFunction")

_REGULARIZERS = ("weight", "embedding")


class MetricLoss(Records, _Base):
    """Base: a `BaseMetricLossFunction` where pytorch-metric-learning is installed, an `nn.Module` elsewhere.

    Args:
        reducer, distance, collect_stats, weight_init_func, weight_regularizer, weight_reg_weight,
            embedding_regularizer, embedding_reg_weight: as for `LargeMarginLoss`.
    """

    def __init__(
        self,
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
        nn.Module.__init__(self)  # upstream's class is a base for its name only
        self.start_records(collect_stats)
        self.distance = self.get_default_distance() if distance is None else distance
        check_distance(type(self).__name__, self.distance)
        self.weight_init_func = (
            self.get_default_weight_init_func() if weight_init_func is None else weight_init_func
        )
        self.embedding_regularizer = embedding_regularizer
        self.embedding_reg_weight = embedding_reg_weight
        self.weight_regularizer = weight_regularizer
        self.weight_reg_weight = weight_reg_weight
        for name in reversed(_REGULARIZERS):
            if getattr(self, f"{name}_regularizer") is not None:
                self.add_to_recordable_attributes(name=f"{name}_reg_weight")
        self.set_reducer(reducer)

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
        self.reset_stats()
        targets = self.checked_labels(embeddings, labels)
        if ref_emb is None or (ref_emb is embeddings and ref_labels is labels):
            ref_emb, ref_labels = embeddings, targets
        loss_dict = self.compute_loss(embeddings, targets, indices_tuple, ref_emb, ref_labels)
        self.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
        return self.reducer(loss_dict, embeddings, targets)

    def checked_labels(self, embeddings: Tensor, labels: Tensor | None) -> Tensor | None:
        """Labels on the device of the embeddings, after every check of shapes and dtypes; None stays."""
        raise NotImplementedError

    @default_hook
    def compute_loss(
        self, embeddings: Tensor, labels: Any, indices_tuple: Any, ref_emb: Any, ref_labels: Any
    ) -> LossDict:
        """The dict of sub-losses that the reducer gets, without that of the embedding regularizer."""
        raise NotImplementedError

    def get_default_distance(self) -> Any:
        """A CosineSimilarity."""
        return default_distance()

    def get_default_weight_init_func(self) -> Callable[[Tensor], Any]:
        """N(0, 1)."""
        return nn.init.normal_

    def get_default_reducer(self) -> Any:
        """The mean over the batch."""
        return MeanReducer()

    def set_reducer(self, reducer: Any) -> None:
        """Set `reducer`, a copy of it for each sub-loss, from what the constructor was given."""
        self.reducer = make_reducer(reducer, self.sub_loss_names(), self.get_default_reducer)

    def _sub_loss_names(self) -> list[str]:
        return ["loss"]

    def sub_loss_names(self) -> list[str]:
        """The keys of the dict that the reducer gets: the loss, and the regularizers that were given."""
        return self._sub_loss_names() + self.all_regularization_loss_names()

    def all_regularization_loss_names(self) -> list[str]:
        """Keys of the regularizers that were given, those of a user's `…RegularizerMixin` first."""
        names: list[str] = []
        for base in inspect.getmro(type(self)):
            kind = base.__name__.removesuffix("RegularizerMixin").lower()
            own = kind in _REGULARIZERS or kind == base.__name__.lower()
            if not own and getattr(self, f"{kind}_regularizer"):
                names.extend(base.regularization_loss_names(self))  # type: ignore[attr-defined]
        given = [kind for kind in _REGULARIZERS if getattr(self, f"{kind}_regularizer") is not None]
        return names + [f"{kind}_reg_loss" for kind in given]

    def weight_regularization_loss(self, weights: Tensor) -> dict[str, Any]:
        """The entry of the weight regularizer, a 0 without one; `weights` is [C, D]."""
        return _penalty(self.weight_regularizer, self.weight_reg_weight, weights)

    def add_weight_regularization_to_loss_dict(self, loss_dict: LossDict, weights: Tensor) -> None:
        """Add the entry `weight_reg_loss`, if there is a weight regularizer."""
        if self.weight_regularizer is not None:
            loss_dict["weight_reg_loss"] = self.weight_regularization_loss(weights)

    def embedding_regularization_loss(self, embeddings: Tensor) -> dict[str, Any]:
        """The entry of the embedding regularizer, a 0 without one; `embeddings` is [B, D]."""
        return _penalty(self.embedding_regularizer, self.embedding_reg_weight, embeddings)

    def add_embedding_regularization_to_loss_dict(self, loss_dict: LossDict, embeddings: Tensor) -> None:
        """Add the entry `embedding_reg_loss`, if there is an embedding regularizer."""
        if self.embedding_regularizer is not None:
            loss_dict["embedding_reg_loss"] = self.embedding_regularization_loss(embeddings)

    def zero_loss(self) -> dict[str, Any]:
        """The entry of a sub-loss that is 0."""
        return reduced_loss(0)

    def zero_losses(self) -> LossDict:
        """A dict in which every sub-loss is 0."""
        return {name: self.zero_loss() for name in self.sub_loss_names()}


def _penalty(regularizer: Callable[[Tensor], Tensor] | None, factor: float, rows: Tensor) -> dict[str, Any]:
    return reduced_loss(0 if regularizer is None else regularizer(rows) * factor)
