"""torch.func and forward-mode AD: refused in words, since `torch.func.jvp` gave 0 and others an error of torch's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

import basket_softmax as bs
from basket_softmax.compat import fastreid, insightface, pml

SIZE, CLASSES = 8, 20
X, LABELS = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 7, 15, 7])
MESSAGE = r"expected a tensor outside torch.func.grad, vjp, jvp, jacrev and forward-mode AD, got one inside: the kernel"
LIMITS = Path(__file__).resolve().parents[2] / "docs" / "limits.md"

HEADS: dict[str, Callable[[], torch.nn.Module]] = {
    "ArcFaceLoss": lambda: bs.ArcFaceLoss(CLASSES, SIZE),
    "AdaFaceLoss": lambda: bs.AdaFaceLoss(CLASSES, SIZE),
    "CurricularFaceLoss": lambda: bs.CurricularFaceLoss(CLASSES, SIZE),
    "TopK": lambda: bs.BasketSoftmaxLoss([12, 8], SIZE),
    "Ema guard": lambda: bs.BasketSoftmaxLoss([12, 8], SIZE, mining=bs.Below(bs.Ema(1.0))),
    "pml": lambda: pml.ArcFaceLoss(CLASSES, SIZE),
    "insightface": lambda: insightface.PartialFC_V2(insightface.ArcFace(), SIZE, CLASSES),
    "sampled insightface": lambda: insightface.PartialFC_V2(insightface.ArcFace(), SIZE, CLASSES, 0.5),
    "fastreid": lambda: fastreid.EmbeddingHead(
        feat_dim=SIZE, num_classes=CLASSES, cls_type="CosSoftmax", scale=16, margin=0.3, pool_type="Identity"
    ),
}


def dual(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(x, torch.ones_like(x)))


def dual_without_a_graph(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return dual(f, x)


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], object]] = {
    "grad": lambda f, x: grad(f)(x),
    "vjp": lambda f, x: vjp(f, x),
    "jacrev": lambda f, x: jacrev(f)(x),
    "jvp": lambda f, x: jvp(f, (x,), (torch.ones_like(x),)),
    "hessian": lambda f, x: hessian(f)(x),
    "per sample": lambda f, x: vmap(grad(lambda row: f(row.expand(4, -1))))(x),
    "grad of vmap": lambda f, x: grad(lambda x: vmap(lambda row: f(row.expand(4, -1)))(x).sum())(x),
    "dual numbers": dual,
    "dual numbers without a graph": dual_without_a_graph,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", HEADS)
def test_refused_in_words(name: str, transform: str) -> None:
    head = HEADS[name]()
    state = {key: value.clone() for key, value in head.state_dict().items()}

    def loss(x: Tensor) -> Tensor:
        if name != "fastreid":
            return head(x, LABELS)
        return head(x[:, :, None, None], LABELS)["loss_cls"]

    with pytest.raises(RuntimeError, match=MESSAGE):
        TRANSFORMS[transform](loss, X)
    assert all(torch.equal(value, state[key]) for key, value in head.state_dict().items())


def test_the_derivative_of_centres_is_refused_by_name() -> None:
    head = HEADS["ArcFaceLoss"]()
    weight = {"weight": head.weight.detach()}
    with pytest.raises(RuntimeError, match=f"weight: {MESSAGE}"):
        grad(lambda weight: functional_call(head, weight, (X, LABELS)))(weight)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_what_works_instead() -> None:
    """Gradients per sample row by row; vmap of the value; a Jacobian whose backward passes are batched."""
    head = bs.ArcFaceLoss(CLASSES, SIZE, reduction="none", dtype=torch.float64)
    values = X.double()
    x = values.clone().requires_grad_()
    rows = [
        torch.autograd.grad(head(x[i : i + 1], LABELS[i : i + 1]).sum(), head.weight)[0]
        for i in range(len(X))
    ]
    (whole,) = torch.autograd.grad(head(x, LABELS).sum(), head.weight)
    torch.testing.assert_close(torch.stack(rows).sum(0), whole)
    mapped = vmap(lambda row, label: head(row[None], label[None])[0])(values, LABELS)
    torch.testing.assert_close(mapped, head(values, LABELS))
    jacobian = torch.autograd.functional.jacobian
    want = jacobian(lambda x: head(x, LABELS), values)
    torch.testing.assert_close(jacobian(lambda x: head(x, LABELS), values, vectorize=True), want)


@pytest.mark.skipif(not LIMITS.exists(), reason="needs the source tree")
def test_the_page_has_the_message() -> None:
    (row,) = [line for line in LIMITS.read_text(encoding="utf-8").splitlines() if "`torch.func`" in line]
    assert "expected a tensor outside torch.func.grad, vjp, jvp, jacrev and forward-mode AD" in row
