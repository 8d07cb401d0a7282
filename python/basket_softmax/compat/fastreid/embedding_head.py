"""`EmbeddingHead` of fast-reid (fastreid/modeling/heads/embedding_head.py) over this library's loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from bbs_kernels import Own, TopK
from bbs_kernels.rules import Rule

from ...baskets import Baskets
from ...losses import BasketSoftmaxLoss
from .config import configurable, refuse_smoothing
from .neck import bottleneck, pool_layer
from .softmax import margin_of


class EmbeddingHead(BasketSoftmaxLoss):
    """Pooling, bottleneck and a margin softmax over the classes, with fast-reid's arguments and state_dict.

    `EmbeddingHead(cfg)` takes the arguments from a configuration, as fast-reid's registries call a head. A model that
    is built from one needs `basket_softmax.compat.fastreid.registered.BasketBaseline` around it.

    state_dict: `weight` [C, D], `bottleneck.*` and, with a learnable pooling, `pool_layer.p`: as fast-reid 1.3 has it.

    Args:
        feat_dim: channels of the backbone's feature map.
        num_classes: C.
        cls_type: "ArcSoftmax", "CosSoftmax" or "CircleSoftmax".
        scale, margin: of the softmax layer; margin in radians for "ArcSoftmax".
        embedding_dim: D; 0: no 1x1 convolution, D = feat_dim.
        with_bnneck, norm_type: whether a batch norm follows, "BN" or "syncBN".
        neck_feat: "before" or "after": which features a triplet loss beside it gets.
        pool_type: the name of fast-reid's pooling, or a module.
        baskets: sizes of the datasets when there are several, which add up to num_classes; labels are then global.
        mining: rule between the baskets; `Own()` for one basket and `TopK()` for several when None.
        **options: as for `BasketSoftmaxLoss`, which this is.

    Raises:
        TypeError, ValueError: an argument is not of these, or a configuration asks for label smoothing.

    Different from fast-reid: training returns {"loss_cls": the loss, "features": …} and no logits, since there are
    none; there is no label smoothing; the mean is over all rows, where fast-reid's `Baseline` and `BasketBaseline` take
    it over those whose loss is not 0; targets of -1 are left out.
    """

    @configurable
    def __init__(
        self,
        *,
        feat_dim: int,
        num_classes: int,
        cls_type: str,
        scale: float,
        margin: float,
        embedding_dim: int = 0,
        with_bnneck: bool = False,
        norm_type: str = "BN",
        neck_feat: str = "before",
        pool_type: str | nn.Module = "GlobalAvgPool",
        baskets: Mapping[str, int] | Iterable[int] | Baskets | None = None,
        mining: Rule | None = None,
        **options: Any,
    ) -> None:
        if neck_feat not in ("before", "after"):
            raise ValueError(f"neck_feat: expected 'before' or 'after', got {neck_feat!r}")
        parts = Baskets([num_classes] if baskets is None else baskets)
        if parts.num_classes != num_classes:
            raise ValueError(
                f"baskets: expected num_classes={num_classes} classes together, got {parts.num_classes}"
            )
        rule = mining if mining is not None else Own() if len(parts) == 1 else TopK()
        size = embedding_dim if embedding_dim > 0 else feat_dim
        super().__init__(
            parts, size, margin_of(cls_type, margin, type(self).__name__), scale, rule, **options
        )
        self.cls_type = cls_type
        self.neck_feat = neck_feat
        self.pool_layer = pool_layer(pool_type)
        self.bottleneck = bottleneck(feat_dim, embedding_dim, with_bnneck, norm_type)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Return the arguments that a fast-reid configuration asks for: `MODEL.HEADS` and `MODEL.BACKBONE.FEAT_DIM`.

        A subclass may add others, such as `baskets`.

        Raises:
            ValueError: `MODEL.LOSSES.CE.EPSILON` is not 0 where the cross-entropy is one of the losses.
        """
        heads, losses = cfg.MODEL.HEADS, cfg.MODEL.LOSSES
        refuse_smoothing(losses.NAME, losses.CE.EPSILON)
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "embedding_dim": heads.EMBEDDING_DIM,
            "num_classes": heads.NUM_CLASSES,
            "neck_feat": heads.NECK_FEAT,
            "pool_type": heads.POOL_LAYER,
            "cls_type": heads.CLS_LAYER,
            "scale": heads.SCALE,
            "margin": heads.MARGIN,
            "with_bnneck": heads.WITH_BNNECK,
            "norm_type": heads.NORM,
        }

    @classmethod
    def from_cfg(cls, cfg: Any, **options: Any) -> EmbeddingHead:
        """Return the head that a fast-reid configuration asks for; `options` in place of what it says."""
        return cls(cfg, **options)

    def forward(  # type: ignore[override]  # fast-reid's order: features, then targets
        self, features: Tensor, targets: Tensor | None = None, basket: Any = None
    ) -> Tensor | dict[str, Tensor]:
        """The embeddings [B, D] in eval mode; in training the loss and the features for losses beside it.

        The loss is that of `MODEL.LOSSES.CE` before its `SCALE`, which a model applies, as there.

        Args:
            features: [B, feat_dim, H, W].
            targets: [B] classes, any integer dtype, -1 for none; needed in training.
            basket: as for `BasketSoftmaxLoss`: indices or a name, when the targets start at 0 in each dataset.
        """
        pooled = self.pool_layer(features)
        neck = self.bottleneck(pooled)[..., 0, 0]
        if not self.training:
            return neck
        if targets is None:
            raise ValueError("EmbeddingHead: targets: expected a tensor [B] in training mode, got None")
        loss = super().forward(neck, targets, basket)
        return {"loss_cls": loss, "features": pooled[..., 0, 0] if self.neck_feat == "before" else neck}
