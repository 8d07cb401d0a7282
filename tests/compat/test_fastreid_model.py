"""A stock configuration of fast-reid, with the lines that docs/migrate-fastreid.md changes, trains as it does there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("fastreid.modeling")

from fastreid.config import CfgNode, get_cfg
from fastreid.modeling import build_model
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage

from basket_softmax.compat.fastreid import registered

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrate-fastreid.md"
BLOCK = re.compile(r"^<!-- test: configuration -->\n```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CLASSES = 23

# What configs/Market1501/sbs_R50.yml says of the model and its optimiser, where fast-reid's defaults say otherwise.
STOCK: dict[str, Any] = {
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.WITH_NL": True,
    "MODEL.FREEZE_LAYERS": ["backbone"],
    "MODEL.HEADS.NECK_FEAT": "after",
    "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP",
    "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
    "MODEL.HEADS.SCALE": 64,
    "MODEL.HEADS.MARGIN": 0.35,
    "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
    "MODEL.LOSSES.CE.EPSILON": 0.1,
    "MODEL.LOSSES.TRI.MARGIN": 0.0,
    "MODEL.LOSSES.TRI.HARD_MINING": True,
    "SOLVER.OPT": "Adam",
    "SOLVER.BASE_LR": 0.00035,
    "SOLVER.FREEZE_ITERS": 1,
}
HERE = {
    "MODEL.DEVICE": "cpu",
    "MODEL.HEADS.NUM_CLASSES": CLASSES,
}  # the trainer sets the number of classes itself


def configuration(**changes: Any) -> CfgNode:
    """The stock configuration; `changes` with "__" for the points."""
    cfg = get_cfg()
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    for key, value in {**STOCK, **HERE, **changes}.items():
        cfg.merge_from_list([key, value])
    return cfg


def as_on_the_page(**changes: Any) -> CfgNode:
    """The stock configuration with the page's lines in it."""
    (lines,) = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert lines.count("# was ") == 2
    cfg = configuration(**changes)
    cfg.merge_from_other_cfg(CfgNode.load_cfg(lines))
    return cfg


def batches(steps: int, rows: int = 8) -> Iterator[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images = 255 * torch.rand(rows, 3, 48, 16, generator=g, dtype=torch.float64)
        yield {"images": images, "targets": torch.randint(CLASSES, (rows // 2,), generator=g).repeat(2)}


def trained(cfg: CfgNode, steps: int = 2) -> tuple[torch.nn.Module, list[dict[str, float]], dict[str, Any]]:
    """The model after `steps` of the stock optimiser, the losses of each, and what was logged."""
    torch.manual_seed(0)
    model = build_model(cfg).double().train()
    optimizer, params = build_optimizer(cfg, model)
    losses = []
    with EventStorage(0) as storage:
        for batch in batches(steps):
            found = model(batch)
            optimizer.zero_grad()
            sum(found.values()).backward()
            params.assert_buffer_is_valid()
            optimizer.step()
            losses.append({name: value.item() for name, value in found.items()})
        return model, losses, dict(storage.latest())


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_stock_configuration_trains_as_there() -> None:
    theirs, want, _ = trained(configuration(MODEL__LOSSES__CE__EPSILON=0.0))
    ours, losses, logged = trained(as_on_the_page())
    for got, expected in zip(losses, want, strict=True):
        assert got.keys() == expected.keys() == {"loss_cls", "loss_triplet"}
        assert got == pytest.approx(expected, rel=1e-7)
    assert list(logged) == ["target_cosine"]
    mine, stock = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(stock)
    for name, value in stock.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=1e-7, msg=name)
    theirs.load_state_dict(mine)
    (batch,) = batches(1)
    assert torch.equal(ours.eval()({"images": batch["images"].clone()}), theirs.eval()(batch))


def small(**changes: Any) -> CfgNode:
    """The page's configuration with the smallest backbone."""
    backbone = {"BACKBONE__DEPTH": "18x", "BACKBONE__FEAT_DIM": 512, "BACKBONE__WITH_NL": False}
    small = {"META_ARCHITECTURE": "BasketBaseline", "LOSSES__CE__EPSILON": 0.0, **backbone}
    return configuration(**{f"MODEL__{key}": value for key, value in small.items()} | changes)


@pytest.mark.parametrize("layer", ["ArcSoftmax", "CosSoftmax"])
def test_every_loss_of_the_features_keeps_its_settings(layer: str) -> None:
    names = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface")
    changes = {
        "MODEL__HEADS__CLS_LAYER": layer, "MODEL__LOSSES__NAME": names, "MODEL__LOSSES__CE__SCALE": 0.5,
        "MODEL__LOSSES__TRI__SCALE": 2.0, "MODEL__LOSSES__CIRCLE__GAMMA": 32, "MODEL__LOSSES__CIRCLE__SCALE": 3.0,
        "MODEL__LOSSES__COSFACE__MARGIN": 0.1, "MODEL__LOSSES__COSFACE__SCALE": 0.25,
    }  # fmt: skip
    _, losses, _ = trained(small(**changes), steps=1)
    _, want, _ = trained(small(**changes, MODEL__META_ARCHITECTURE="Baseline"), steps=1)
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(want[0], rel=1e-9)


def test_rows_whose_loss_is_0_do_not_count() -> None:
    """Half of the rows lie on their centres: fast-reid divides the sum by the other half, and so does this model."""
    labels = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))[:8]
    features = torch.randn(8, 512, 1, 1, generator=torch.Generator().manual_seed(1))
    found = []
    for name in ("Baseline", "BasketBaseline"):
        changes = {"MODEL__META_ARCHITECTURE": name, "MODEL__HEADS__CLS_LAYER": "CosSoftmax"}
        torch.manual_seed(0)
        model = build_model(small(**changes, MODEL__LOSSES__NAME=("CrossEntropyLoss",))).train()
        heads = model.heads
        with torch.no_grad():
            heads.weight[labels[:4]] = heads.bottleneck(heads.pool_layer(features))[:4, :, 0, 0]
        with EventStorage(0):
            (value,) = model.losses(heads(features, labels), labels).values()
        value.backward()
        found.append((value, heads.weight.grad))
    (theirs, gradient), (mine, own) = found
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(own, gradient, rtol=1e-3, atol=1e-5)
    assert mine.item() > 1.9 * heads(features, labels)["loss_cls"].item()  # the mean over all rows


def test_a_loss_that_is_not_named_is_not_there() -> None:
    changes = {"MODEL__LOSSES__NAME": ("TripletLoss",), "MODEL__LOSSES__CE__EPSILON": 0.1}
    _, losses, _ = trained(small(**changes), steps=1)
    assert list(losses[0]) == ["loss_triplet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"MODEL__LOSSES__CE__EPSILON": 0.1},
            "MODEL.LOSSES.CE.EPSILON: expected 0, got 0.1: label smoothing",
        ),
        ({"MODEL__HEADS__CLS_LAYER": "Linear"}, "cls_type: expected .*, got 'Linear'"),
        (
            {"MODEL__HEADS__NAME": "ClasHead"},
            "MODEL.HEADS.NAME: expected 'EmbeddingHead' or .* got 'ClasHead'",
        ),
        (
            {"MODEL__LOSSES__NAME": ("FocalLoss",)},
            r"MODEL.LOSSES.NAME: expected some of .* got \['FocalLoss'\]",
        ),
        *(
            (
                {"MODEL__META_ARCHITECTURE": name, "MODEL__HEADS__NAME": "BasketEmbeddingHead"},
                f"MODEL.META_ARCHITECTURE: expected 'BasketBaseline', got '{name}', which reads logits",
            )
            for name in ("Baseline", "MoCo", "Distiller")
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_model_is_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(small(**changes))


def test_a_model_made_without_a_configuration_does_not_lose_its_smoothing() -> None:
    model = build_model(small())
    model.loss_kwargs["ce"]["eps"] = 0.1
    (batch,) = batches(1)
    with pytest.raises(ValueError, match=r"EPSILON: expected 0, got 0\.1"), EventStorage(0):
        model.double()(batch)


def test_head_of_one_s_own_with_baskets() -> None:
    @REID_HEADS_REGISTRY.register()
    class ManySmall(registered.BasketEmbeddingHead):
        @classmethod
        def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
            return {**super().from_config(cfg), "baskets": {"a": 10, "b": 13}}

    model, losses, _ = trained(small(MODEL__HEADS__NAME="ManySmall"), steps=2)
    assert isinstance(model.heads, ManySmall)
    assert model.heads.baskets.sizes == (10, 13)
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in losses)
