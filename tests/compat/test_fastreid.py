"""EmbeddingHead against the layers that fast-reid publishes, and its state_dict against the real package.

fast-reid pins an old torch; `pip install --no-deps fastreid==1.4.0 yacs termcolor tabulate` is enough for its head.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import basket_softmax as bs
from basket_softmax.compat import fastreid

SETTINGS = {"feat_dim": 12, "num_classes": 23, "scale": 16.0, "with_bnneck": True}
NAMES = ["ArcSoftmax", "CosSoftmax", "CircleSoftmax"]


def logits(name: str, cos, labels, m: float):
    """The published layers on dense cosines, before the scale; theta + m may pass pi."""
    is_target = torch.arange(cos.shape[1]) == labels[:, None]
    if name == "ArcSoftmax":
        return torch.where(is_target, torch.cos(torch.arccos(cos) + m), cos)
    if name == "CosSoftmax":
        return torch.where(is_target, cos - m, cos)
    pull = torch.relu(1 + m - cos.detach()) * (cos - (1 - m))
    push = torch.relu(cos.detach() + m) * (cos - m)
    return torch.where(is_target, pull, push)


def batch(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(17, 12, 3, 2, generator=g, dtype=torch.float64).abs().requires_grad_()
    return features, torch.randint(23, (17,), generator=g)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("neck", ["before", "after"])
def test_formula(name: str, neck: str) -> None:
    torch.manual_seed(0)
    head = fastreid.EmbeddingHead(
        cls_type=name, margin=0.3, neck_feat=neck, embedding_dim=5, **SETTINGS, dtype=torch.float64
    ).double()
    features, labels = batch()
    out = head(features, labels)
    assert sorted(out) == ["features", "loss_cls"]
    pooled = features.mean((2, 3))
    x = pooled @ head.bottleneck[0].weight[..., 0, 0].t()
    x = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)
    torch.testing.assert_close(out["features"], pooled if neck == "before" else x)
    dense = head.weight.detach().clone().requires_grad_()
    want = F.cross_entropy(16.0 * logits(name, F.normalize(x) @ F.normalize(dense).t(), labels, 0.3), labels)
    assert out["loss_cls"].item() == pytest.approx(want.item(), rel=1e-12)
    mine = torch.autograd.grad(out["loss_cls"], (features, head.weight))
    for got, theirs in zip(mine, torch.autograd.grad(want, (features, dense)), strict=True):
        torch.testing.assert_close(got, theirs, rtol=1e-8, atol=1e-12)
    assert not head.bottleneck[1].bias.requires_grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("embedding_dim", [0, 5])
@pytest.mark.parametrize(
    "pool", ["GlobalAvgPool", "GeneralizedMeanPoolingP", "GlobalMaxPool", "FastGlobalAvgPool"]
)
def test_round_trip_with_the_package(name: str, embedding_dim: int, pool: str) -> None:
    """Our head takes fast-reid's weights and gives its loss, gradients and embeddings, and the other way round."""
    package = pytest.importorskip("fastreid.modeling.heads.embedding_head")
    torch.manual_seed(1)
    options = {"embedding_dim": embedding_dim, "cls_type": name, "margin": 0.3, "pool_type": pool, **SETTINGS}
    theirs = package.EmbeddingHead(**options, neck_feat="before", norm_type="BN").double()
    torch.nn.init.normal_(theirs.weight)
    ours = fastreid.EmbeddingHead(**options, dtype=torch.float64).double()
    model = {
        "backbone.x": torch.ones(1),
        **{f"heads.{key}": value for key, value in theirs.state_dict().items()},
    }
    ours.load_state_dict(fastreid.head_state_dict({"model": model, "iteration": 3}))
    features, labels = batch()
    out, there = ours(features, labels), theirs(features, labels)
    want = F.cross_entropy(there["cls_outputs"], labels)
    assert out["loss_cls"].item() == pytest.approx(want.item(), rel=1e-12)
    torch.testing.assert_close(out["features"], there["features"])
    mine = torch.autograd.grad(out["loss_cls"], (features, ours.weight))
    for got, wanted in zip(mine, torch.autograd.grad(want, (features, theirs.weight)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-11)
    # Both have now updated their batch norm from this batch.
    torch.testing.assert_close(ours.eval()(features), theirs.eval()(features))
    with torch.no_grad():
        ours.weight.mul_(2.0)
    back = fastreid.with_head({"model": model, "iteration": 3}, ours.state_dict())
    assert back["iteration"] == 3
    assert list(back["model"]) == list(model)
    theirs.load_state_dict(
        {key[6:]: value for key, value in back["model"].items() if key.startswith("heads.")}
    )
    assert torch.equal(theirs.weight, ours.weight)


def test_configuration_of_the_package() -> None:
    cfg = pytest.importorskip("fastreid.config").get_cfg()
    cfg.MODEL.HEADS.NUM_CLASSES = 751
    cfg.MODEL.HEADS.CLS_LAYER = "CircleSoftmax"
    cfg.MODEL.HEADS.SCALE, cfg.MODEL.HEADS.MARGIN = 64, 0.35
    cfg.MODEL.HEADS.WITH_BNNECK = True
    cfg.MODEL.HEADS.POOL_LAYER = "GeneralizedMeanPoolingP"
    head = fastreid.EmbeddingHead.from_cfg(cfg, reduction="sum")
    assert list(head.weight.shape) == [751, cfg.MODEL.BACKBONE.FEAT_DIM]
    assert (head.margin, head.scale, head.reduction) == (fastreid.CircleSoftmax(0.35), 64.0, "sum")
    assert "pool_layer.p" in head.state_dict()


def test_several_datasets() -> None:
    """With baskets, labels may start at 0 in each, and mining decides between them."""
    torch.manual_seed(0)
    head = fastreid.EmbeddingHead(
        cls_type="CosSoftmax", margin=0.2, **SETTINGS, baskets={"market": 10, "duke": 13}, dtype=torch.float64
    ).double()
    assert head.mining == bs.TopK()
    features, _ = batch()
    labels, basket = torch.arange(17) % 10, torch.arange(17) % 2
    local = head(features, labels, basket=basket)["loss_cls"]
    plain = bs.BasketSoftmaxLoss([10, 13], 12, bs.CosFace(0.2), 16.0, dtype=torch.float64)
    plain.load_full_weight(head.weight.detach())
    embeddings = head.bottleneck(head.pool_layer(features))[..., 0, 0]
    assert local.item() == pytest.approx(plain(embeddings, labels + 10 * basket).item(), rel=1e-12)


def test_neither_pool_nor_neck() -> None:
    head = fastreid.EmbeddingHead(
        feat_dim=4,
        num_classes=3,
        cls_type="ArcSoftmax",
        scale=8,
        margin=0.5,
        pool_type=torch.nn.AdaptiveMaxPool2d(1),
    )
    assert list(head.state_dict()) == ["weight"]
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(head.eval()(x), x.amax((2, 3)))


def test_circle_by_hand() -> None:
    """c = 0.9 with m = 0.25: pulled by 0.35 * 0.15, pushed by 1.15 * 0.65; nothing pushes below c = -m."""
    circle = fastreid.CircleSoftmax(0.25)
    c = torch.tensor([0.9, -0.5], dtype=torch.float64)
    assert circle(c).tolist() == pytest.approx([0.35 * 0.15, 1.75 * -1.25])
    ctx = bs.MarginContext(c, c.long(), True, c > -2)
    assert circle.negatives(c, ctx).function(c).tolist() == pytest.approx([1.15 * 0.65, 0.0])


def test_the_head_of_a_models_state_knows_its_baskets() -> None:
    def net(baskets: dict[str, int]) -> torch.nn.ModuleDict:
        head = fastreid.EmbeddingHead(cls_type="CosSoftmax", margin=0.2, **SETTINGS, baskets=baskets)
        return torch.nn.ModuleDict({"heads": head})

    model = net({"a": 20, "b": 3}).state_dict()
    head = net({"a": 20, "b": 3})["heads"]
    head.load_state_dict(fastreid.head_state_dict({"model": model}))
    assert torch.equal(head.weight, model["heads.weight"])
    with pytest.raises(RuntimeError, match=r"those of the baskets \{'a': 20, 'b': 3\}, this head has"):
        net({"b": 20, "a": 3})["heads"].load_state_dict(fastreid.head_state_dict(model))


def test_messages() -> None:
    with pytest.raises(
        ValueError, match=r"cls_type: expected one of 'ArcSoftmax'.*, got 'Linear'.*not cosines"
    ):
        fastreid.EmbeddingHead(cls_type="Linear", margin=0.0, **SETTINGS)
    for option, value, message in (
        ("neck_feat", "between", "neck_feat: expected 'before' or 'after', got 'between'"),
        ("norm_type", "GN", "norm_type: expected one of 'BN', 'syncBN', got 'GN'"),
        ("pool_type", "ClipGlobalAvgPool", "pool_type: expected 'Identity', .*, got 'ClipGlobalAvgPool'"),
        ("baskets", [10, 10], "baskets: expected num_classes=23 classes together, got 20"),
    ):
        with pytest.raises(ValueError, match=message):
            fastreid.EmbeddingHead(cls_type="CosSoftmax", margin=0.2, **{**SETTINGS, option: value})
    head = fastreid.EmbeddingHead(cls_type="CosSoftmax", margin=0.2, **SETTINGS)
    with pytest.raises(ValueError, match=r"targets: expected .*, got None"):
        head(torch.ones(2, 12, 1, 1))
    with pytest.raises(KeyError, match=r"checkpoint has no heads.weight.*it has \['backbone', 'fc'\]"):
        fastreid.head_state_dict({"backbone.a": torch.ones(1), "fc.weight": torch.ones(1)})
    with pytest.raises(KeyError, match=r"only the head has \['bottleneck.0.bias'"):
        fastreid.with_head({"heads.weight": head.weight}, head.state_dict())


def test_beyond_pi_as_there() -> None:
    """cos(theta + m) rises again beyond pi, as the package has it; the head's own default would not."""
    margin = fastreid.margin_of("ArcSoftmax", 0.5)
    c = torch.tensor([-0.95], dtype=torch.float64)
    assert margin(c).item() == pytest.approx(math.cos(math.acos(-0.95) + 0.5))
    assert margin(c) > bs.ArcFace(0.5)(c)
