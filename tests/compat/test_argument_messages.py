"""Wrong arguments of the replacements are answered in the caller's words: its class, its argument and its unit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from basket_softmax.compat import fastreid, insightface, pml
from basket_softmax.compat.pml.distance import CosineSimilarity

NAN = float("nan")
X, LABELS = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)


def head(**options: object) -> object:
    return fastreid.EmbeddingHead(
        **{"feat_dim": 8, "num_classes": 5, "cls_type": "ArcSoftmax", "scale": 16.0, "margin": 0.2, **options}  # type: ignore[arg-type]
    )


def not_normalised() -> CosineSimilarity:
    distance = CosineSimilarity()
    distance.normalize_embeddings = False
    return distance


def assigned(attribute: str, value: float) -> object:
    loss = pml.ArcFaceLoss(5, 8)
    setattr(loss, attribute, value)
    return loss(X, LABELS)


def scheduled(attribute: str, value: float, make: Callable[[], insightface.margins.MarginLoss]) -> object:
    margin = make()
    layer = insightface.PartialFC_V2(margin, 8, 5)
    setattr(margin, attribute, value)
    return layer(X, LABELS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pml.ArcFaceLoss(5, 8, margin=200), r"ArcFaceLoss: margin: expected degrees in \[0, 180\), got 200$"),
        (lambda: pml.SubCenterArcFaceLoss(5, 8, margin=-1),
         r"SubCenterArcFaceLoss: margin: expected degrees in \[0, 180\), got -1$"),
        (lambda: pml.ArcFaceLoss(5, 8, margin="a"), "ArcFaceLoss: margin: expected a number, got 'a'"),
        (lambda: assigned("margin", 28.6), r"ArcFaceLoss: margin: expected radians in \[0, pi\), got 28.6; for"),
        (lambda: pml.CosFaceLoss(5, 8, margin=NAN), "CosFaceLoss: margin: expected a finite number, got nan"),
        (lambda: pml.CosFaceLoss(5, 8, scale="a"), "CosFaceLoss: scale: expected a number, got 'a'"),
        (lambda: pml.CosFaceLoss(5, 8, scale=1e7), "CosFaceLoss: scale: expected a number above 0, .*, got 10000000"),
        (lambda: pml.SubCenterArcFaceLoss(5, 8, sub_centers=2.5),
         "SubCenterArcFaceLoss: sub_centers: expected an int, got 2.5"),
        (lambda: pml.ArcFaceLoss(5, 8, distance=not_normalised()),
         "ArcFaceLoss: distance: expected .* and normalize_embeddings=True .*, got CosineSimilarity with p=2, power=1, "
         "normalize_embeddings=False$"),
        (lambda: insightface.ArcFace(margin=28.6), r"^ArcFace: margin: expected radians in \[0, pi\), got 28.6"),
        (lambda: insightface.CosFace(m=NAN), "^CosFace: m: expected a finite number, got nan"),
        (lambda: insightface.CombinedMarginLoss(64, 0, 0.5, 0), "^CombinedMarginLoss: m1: expected .* above 0, got 0"),
        (lambda: insightface.CombinedMarginLoss(64, 1, 28, 0), "^CombinedMarginLoss: m2: expected radians"),
        (lambda: insightface.ArcFace(s="a"), "^ArcFace: s: expected a number, got 'a'"),
        (lambda: scheduled("margin", 28.6, insightface.ArcFace), "^ArcFace: margin: expected radians"),
        (lambda: scheduled("s", 1e7, insightface.CosFace), "^CosFace: s: expected a number above 0, .*, got 10000000"),
        (lambda: head(margin=28.6), r"^EmbeddingHead: margin: expected radians in \[0, pi\), got 28.6; for degrees"),
        (lambda: head(cls_type="CosSoftmax", margin=NAN), "^EmbeddingHead: margin: expected a finite number, got nan"),
        (lambda: head(cls_type="CircleSoftmax", margin=NAN), "^EmbeddingHead: margin: expected a finite number, got"),
        (lambda: fastreid.CircleSoftmax("a"), "^CircleSoftmax: margin: expected a number, got 'a'"),
    ],
)  # fmt: skip
def test_message(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("label", [NAN, float("inf"), -float("inf")])
def test_labels_of_partial_fc_that_are_not_finite(label: float) -> None:
    layer = insightface.PartialFC_V2(insightface.ArcFace(), 8, 5)
    labels = LABELS.double()
    assert torch.equal(layer(X, labels + 0.5), layer(X, LABELS))  # cut, as insightface's `.long()` cuts them
    labels[2] = label
    with pytest.raises(ValueError, match=rf"PartialFC_V2: labels: expected class indices, got {label}$"):
        layer(X, labels)


def test_a_margin_in_another_unit_for_a_hook_of_the_subclass() -> None:
    class Mine(pml.ArcFaceLoss):
        def modify_cosine_of_target_classes(self, cosine_of_target_classes: torch.Tensor) -> torch.Tensor:
            return cosine_of_target_classes - self.margin / 100

    assert Mine(5, 8, margin=200)(X, LABELS).isfinite()
