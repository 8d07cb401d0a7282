"""One rule for labels, in every head and replacement: any integer dtype is taken, bool and floating-point are refused.

A replacement also takes what its original takes: insightface's PartialFC_V2 calls `.long()` on whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import basket_softmax as bs
from basket_softmax.compat import fastreid, insightface, pml

INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32]
OTHERS = [torch.bool, torch.float32, torch.float16, torch.uint64]
ROWS, CLASSES, SIZE = 6, 5, 8
X = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1, 3, 2, 0])
FEATURES = X[:, :, None, None]

Call = Callable[[Tensor], Tensor]


def of(head: nn.Module) -> Call:
    return lambda labels: head(X, labels)


def with_basket(labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    head = bs.BasketSoftmaxLoss([CLASSES, 7], SIZE)
    return head(X, labels, basket=torch.tensor([0, 1] * 3, dtype=getattr(labels, "dtype", None)))


def functional(labels: Tensor) -> Tensor:
    w = torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(1))
    offsets = torch.tensor([0, CLASSES])
    return bs.functional.basket_softmax(
        X, w, labels, offsets, margin=bs.ArcFace(0.5), scale=64.0, mining=bs.Own()
    )


def fast_reid(cls_type: str) -> Call:
    head = fastreid.EmbeddingHead(
        feat_dim=SIZE, num_classes=CLASSES, cls_type=cls_type, scale=16, margin=0.3, with_bnneck=True
    )
    return lambda labels: head(FEATURES, labels)["loss_cls"]


def class_means(labels: Tensor) -> Tensor:
    means = bs.ClassMeans(bs.ArcFaceLoss(3, SIZE), CLASSES)
    means.update(X, labels)
    return means.rows(torch.ones(CLASSES, SIZE))


def linked(labels: Tensor) -> Tensor:
    return bs.IdentityLinker(bs.BasketSoftmaxLoss([CLASSES, 7], SIZE))(X, labels)


TAKERS: dict[str, Call] = {
    "ArcFaceLoss": of(bs.ArcFaceLoss(CLASSES, SIZE)),
    "SphereFaceLoss": of(bs.SphereFaceLoss(CLASSES, SIZE)),
    "AdaFaceLoss": of(bs.AdaFaceLoss(CLASSES, SIZE).eval()),
    "MagFaceLoss": of(bs.MagFaceLoss(CLASSES, SIZE)),
    "CurricularFaceLoss": of(bs.CurricularFaceLoss(CLASSES, SIZE).eval()),
    "BasketSoftmaxLoss(basket=)": with_basket,
    "basket_softmax": functional,
    "Baskets.to_global": lambda labels: bs.Baskets([CLASSES, 7]).to_global(labels, 1),
    "Baskets.to_local": lambda labels: bs.Baskets([3, 7]).to_local(labels).basket,
    "ClassMeans": class_means,
    "IdentityLinker": linked,
    "pml.ArcFaceLoss": of(pml.ArcFaceLoss(CLASSES, SIZE)),
    "pml.CosFaceLoss": of(pml.CosFaceLoss(CLASSES, SIZE)),
    "pml.SubCenterArcFaceLoss": of(pml.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=SIZE)),
    "insightface.ArcFace": lambda labels: insightface.ArcFace()(X[:, :CLASSES].tanh(), labels),
    "insightface.PartialFC_V2": of(insightface.PartialFC_V2(insightface.CosFace(), SIZE, CLASSES)),
    "fastreid, ArcSoftmax": fast_reid("ArcSoftmax"),
    "fastreid, CircleSoftmax": fast_reid("CircleSoftmax"),
}


@pytest.mark.parametrize("name", TAKERS)
def test_every_integer_dtype_gives_the_same(name: str) -> None:
    want = TAKERS[name](LABELS)
    for dtype in INTEGERS:
        assert torch.equal(TAKERS[name](LABELS.to(dtype)), want), dtype


@pytest.mark.parametrize("name", [name for name in TAKERS if name != "insightface.PartialFC_V2"])
def test_other_dtypes_are_refused_in_words(name: str) -> None:
    for labels in (*(LABELS.to(dtype) for dtype in OTHERS), LABELS.tolist(), None):
        if labels is None and name.startswith(("pml", "fastreid")):  # there an argument that may be left out
            continue
        got = getattr(labels, "dtype", type(labels).__name__)
        message = rf"labels: expected a tensor of class indices \(an integer dtype\), got {got}"
        with pytest.raises(TypeError, match=message):
            TAKERS[name](labels)


def test_partial_fc_takes_what_insightface_converts() -> None:
    take = TAKERS["insightface.PartialFC_V2"]
    assert torch.equal(take(LABELS.float()), take(LABELS))
    assert torch.equal(take((LABELS > 0).to(torch.bool)), take((LABELS > 0).long()))
    with pytest.raises(
        TypeError, match=r"PartialFC_V2: labels: expected a tensor of class indices .* got list"
    ):
        take(LABELS.tolist())


def test_an_unsigned_label_is_not_taken_for_ignore_index() -> None:
    """255 and -1 have the same bits: compared as uint8, such a row would have been left out."""
    labels = torch.full((ROWS,), 255, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="255"):
        bs.ArcFaceLoss(CLASSES, SIZE)(X, labels)
    assert bs.Baskets([300]).to_local(labels).labels.tolist() == [255] * ROWS


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_fast_reid_takes_both(dtype: torch.dtype) -> None:
    package = pytest.importorskip("fastreid.modeling.heads.embedding_head")
    options = {"feat_dim": SIZE, "num_classes": CLASSES, "cls_type": "CosSoftmax", "scale": 16, "margin": 0.3}
    theirs = package.EmbeddingHead(
        **options,
        embedding_dim=0,
        neck_feat="before",
        pool_type="GlobalAvgPool",
        with_bnneck=True,
        norm_type="BN",
    )
    ours = fastreid.EmbeddingHead(**options, with_bnneck=True)
    ours.load_state_dict(theirs.state_dict())
    want = nn.functional.cross_entropy(theirs(FEATURES, LABELS.to(dtype))["cls_outputs"], LABELS)
    torch.testing.assert_close(ours(FEATURES, LABELS.to(dtype))["loss_cls"], want)
