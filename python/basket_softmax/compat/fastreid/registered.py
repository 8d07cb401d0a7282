"""fast-reid's model over this library's head; importing this module enters both in fast-reid's registries.

    import basket_softmax.compat.fastreid.registered  # in the script, before build_model

    MODEL:
      META_ARCHITECTURE: BasketBaseline  # in the configuration, in place of Baseline

The one module of `compat` that imports the library it follows; `basket_softmax` never imports it.
"""

from __future__ import annotations

from typing import Any

from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.losses import pairwise_circleloss, pairwise_cosface, triplet_loss
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, Baseline
from fastreid.utils.events import get_event_storage
from torch import Tensor

from .._head import round_to_zero
from . import embedding_head
from .config import CROSS_ENTROPY, refuse_smoothing

# Losses of MODEL.LOSSES.NAME that go by the features: the key of their value, the function, the key of its settings in
# `loss_kwargs`, and the settings that it takes.
OF_FEATURES = {
    "TripletLoss": ("loss_triplet", triplet_loss, "tri", ("margin", "norm_feat", "hard_mining")),
    "CircleLoss": ("loss_circle", pairwise_circleloss, "circle", ("margin", "gamma")),
    "Cosface": ("loss_cosface", pairwise_cosface, "cosface", ("margin", "gamma")),
}
STOCK = ("Baseline", "MGN", "MoCo", "Distiller")  # read logits of batch x classes from the head


@REID_HEADS_REGISTRY.register()
class BasketEmbeddingHead(embedding_head.EmbeddingHead):
    """`EmbeddingHead` of this library under a name of its own, since the registry has fast-reid's under that one."""

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """As `EmbeddingHead.from_config`; ValueError for a meta-architecture that needs logits."""
        if cfg.MODEL.META_ARCHITECTURE in STOCK:
            raise ValueError(
                f"MODEL.META_ARCHITECTURE: expected 'BasketBaseline', got {cfg.MODEL.META_ARCHITECTURE!r}, which reads "
                f"logits of batch x classes that {cls.__name__} does not make"
            )
        return super().from_config(cfg)


@META_ARCH_REGISTRY.register()
class BasketBaseline(Baseline):
    """fast-reid's `Baseline` with this library's `EmbeddingHead`: the same losses, without batch x classes logits.

    `MODEL.HEADS.NAME` is "EmbeddingHead", which becomes `BasketEmbeddingHead`, or the registered name of a subclass of
    this library's `EmbeddingHead`, for example one whose `from_config` adds `baskets`. The state_dict is that of
    `Baseline`. In place of `cls_accuracy` it logs `target_cosine`, the mean cosine with the own class.

    Raises:
        ValueError: another head, label smoothing, or a loss that `Baseline` does not have either.
    """

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """As `Baseline.from_config`, with this library's head."""
        cfg = cfg.clone()
        cfg.defrost()
        if cfg.MODEL.HEADS.NAME == "EmbeddingHead":
            cfg.MODEL.HEADS.NAME = BasketEmbeddingHead.__name__
        head = REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
        if not (isinstance(head, type) and issubclass(head, embedding_head.EmbeddingHead)):
            raise ValueError(
                "MODEL.HEADS.NAME: expected 'EmbeddingHead' or the name of a subclass of "
                f"basket_softmax.compat.fastreid.EmbeddingHead, got {cfg.MODEL.HEADS.NAME!r}"
            )
        unknown = sorted(set(cfg.MODEL.LOSSES.NAME) - {CROSS_ENTROPY, *OF_FEATURES})
        if unknown:
            raise ValueError(
                f"MODEL.LOSSES.NAME: expected some of {', '.join((CROSS_ENTROPY, *OF_FEATURES))}, got {unknown}"
            )
        return super().from_config(cfg)

    def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
        """{"loss_cls": …, "loss_triplet": …, …}, each times its SCALE, of the losses that the configuration names."""
        names, settings = self.loss_kwargs["loss_names"], self.loss_kwargs
        refuse_smoothing(names, settings["ce"]["eps"])  # a model that was made without a configuration
        get_event_storage().put_scalar("target_cosine", self.heads.stats()["mean_target_cosine"])
        found = {}
        if CROSS_ENTROPY in names:
            found["loss_cls"] = outputs["loss_cls"] * (
                _over_counted_rows(self.heads) * settings["ce"]["scale"]
            )
        for name, (logged, loss, key, arguments) in OF_FEATURES.items():
            if name in names:
                own = settings[key]
                values = (own[argument] for argument in arguments)
                found[logged] = loss(outputs["features"], gt_labels, *values) * own["scale"]
        return found


def _over_counted_rows(head: embedding_head.EmbeddingHead) -> Tensor | float:
    """Return the factor from the head's mean over all rows of the last step to that over rows whose loss is not 0.

    fast-reid takes the second. Small losses round to 0 there; here they keep their digits.
    """
    last = head._last
    if last is None or head.reduction != "mean":
        return 1.0
    rows = last.labels != head.ignore_index
    counted = rows & ~round_to_zero(last.losses)
    return rows.sum() / counted.sum().clamp_min(1)
