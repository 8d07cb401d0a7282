"""A head from a fast-reid configuration, `EmbeddingHead(cfg)`: what it takes and what it refuses; without fast-reid."""

from __future__ import annotations

from types import SimpleNamespace as Node
from typing import Any

import pytest

from basket_softmax.compat import fastreid


def configuration(
    losses: tuple[str, ...] = ("CrossEntropyLoss",), epsilon: float = 0.0, **heads: Any
) -> Node:
    """The keys of a configuration that a head reads."""
    head = {
        "EMBEDDING_DIM": 0, "NUM_CLASSES": 23, "NECK_FEAT": "after", "POOL_LAYER": "GlobalAvgPool",
        "CLS_LAYER": "CosSoftmax", "SCALE": 16, "MARGIN": 0.2, "WITH_BNNECK": True, "NORM": "BN", **heads,
    }  # fmt: skip
    ce = Node(EPSILON=epsilon, ALPHA=0.2, SCALE=1.0)
    return Node(MODEL=Node(HEADS=Node(**head), BACKBONE=Node(FEAT_DIM=12), LOSSES=Node(NAME=losses, CE=ce)))


def test_head_of_a_configuration() -> None:
    """Called with a configuration, as fast-reid's registries do; keywords beside it win."""
    for head in (
        fastreid.EmbeddingHead(configuration()),
        fastreid.EmbeddingHead(cfg=configuration()),
        fastreid.EmbeddingHead.from_cfg(configuration()),
    ):
        assert list(head.weight.shape) == [23, 12]
        assert (head.scale, head.neck_feat, head.reduction) == (16.0, "after", "mean")
    head = fastreid.EmbeddingHead(configuration(), reduction="sum", scale=8.0)
    assert (head.scale, head.reduction) == (8.0, "sum")


def test_subclass_with_arguments_of_its_own() -> None:
    class TwoDatasets(fastreid.EmbeddingHead):
        @classmethod
        def from_config(cls, cfg: Any) -> dict[str, Any]:
            return {**super().from_config(cfg), "baskets": {"a": 10, "b": 13}}

    assert TwoDatasets(configuration()).baskets.sizes == (10, 13)
    assert TwoDatasets.from_cfg(configuration()).baskets.names == ("a", "b")


@pytest.mark.parametrize("epsilon", [0.1, -1])
def test_label_smoothing_is_refused(epsilon: float) -> None:
    cfg = configuration(("CrossEntropyLoss", "TripletLoss"), epsilon)
    message = rf"MODEL.LOSSES.CE.EPSILON: expected 0, got {epsilon}: label smoothing.*set .* to 0.0"
    for make in (fastreid.EmbeddingHead, fastreid.EmbeddingHead.from_cfg):
        with pytest.raises(ValueError, match=message):
            make(cfg)
    fastreid.EmbeddingHead(configuration(("TripletLoss",), epsilon))  # there it is not read either


@pytest.mark.parametrize("arguments", [(3,), (None,), ("a.yml",)])
def test_anything_else_is_no_configuration(arguments: tuple) -> None:
    with pytest.raises(
        TypeError, match=r"EmbeddingHead: expected keyword arguments, or a fast-reid configuration"
    ):
        fastreid.EmbeddingHead(*arguments)
    with pytest.raises(TypeError, match="got SimpleNamespace, SimpleNamespace"):
        fastreid.EmbeddingHead(configuration(), configuration())
