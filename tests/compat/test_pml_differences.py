"""What compat.pml does differently, shown on pytorch-metric-learning itself.

Each test asserts upstream's behaviour too, so that it fails on the day upstream changes, and the
documentation of the difference can go.
"""

from __future__ import annotations

import pytest
import torch

from basket_softmax.compat import pml as ours
from bbs_kernels import reference
from bbs_kernels.margins import ArcFace
from bbs_kernels.rules import Own

upstream = pytest.importorskip("pytorch_metric_learning.losses")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")

NAMES = ("ArcFaceLoss", "CosFaceLoss")


def pair(name: str, w: torch.Tensor, **kwargs: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    made = []
    for library in (ours, upstream):
        loss = getattr(library, name)(num_classes=w.shape[0], embedding_size=w.shape[1], **kwargs)
        loss.W.data = w.t().clone()
        made.append(loss)
    return made[0], made[1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_embeddings_on_a_centre_have_finite_gradients(problem, relative_l2, sign):
    _, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair("ArcFaceLoss", w)
    x = (sign * 3.0 * w[labels]).requires_grad_()

    dx, dw = torch.autograd.grad(theirs(x, labels), (x, theirs.W))
    assert dx.isnan().any(), "upstream no longer gives NaN at cos = +-1: remove this difference"
    assert dw.isnan().any()

    dx, dw = torch.autograd.grad(mine(x, labels), (x, mine.W))
    wide, centres = x.detach().double().requires_grad_(), w.double().requires_grad_()
    lse, cos_t, _, _ = reference.cos_lse(
        wide, centres, labels, torch.tensor([0, len(w)]), scale=64.0, mining=Own()
    )
    margin = ArcFace(mine.margin)
    value = reference.row_losses(lse, margin(cos_t), scale=64.0).mean()
    want_x, want_w = torch.autograd.grad(value, (wide, centres))
    assert dx.isfinite().all()
    assert dw.isfinite().all()
    # Relative to the size of the factors, since the tangent part of a vector on its own centre cancels.
    assert relative_l2(dw.t(), want_w) < 1e-3
    assert relative_l2(dx, want_x) < 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_centres_stays(problem, name, dtype):
    x, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair(name, w)
    theirs(x.to(dtype), labels)
    assert theirs.W.dtype == dtype, "upstream no longer casts its parameter: remove this difference"

    value = mine(x.to(dtype), labels)
    value.backward()
    assert mine.W.dtype == torch.float32
    assert torch.equal(mine.W, w.t())
    assert mine.W.grad.dtype == torch.float32
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("name", NAMES)
def test_the_centres_stay_under_autocast_on_the_cpu(problem, name):
    x, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair(name, w)
    layer = torch.nn.Linear(x.shape[1], x.shape[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = layer(x)
        theirs(embeddings, labels)
        value = mine(embeddings, labels)
    assert theirs.W.dtype == torch.bfloat16, "upstream no longer casts under autocast: remove this difference"
    assert mine.W.dtype == torch.float32
    assert value.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_small_updates_survive_a_half_precision_step(problem, name):
    """Why it matters: an update below half an ulp of fp16 vanishes in cast centres."""
    x, w, labels = problem(dtype=torch.float32)
    for loss, survives in zip(pair(name, w), (True, False), strict=True):
        loss(x.bfloat16(), labels)
        before = loss.W.detach().clone()
        with torch.no_grad():
            loss.W -= 1e-4 * before
        changed = loss.W.ne(before).float().mean()
        assert (changed > 0.9) == survives


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_lose_less(problem, relative_l2, name, dtype):
    x, w, labels = problem(dtype=torch.float32)
    x = x.to(dtype)
    exact, _ = pair(name, w.to(dtype).double())
    want = exact(x.double(), labels)
    mine, theirs = pair(name, w)
    assert relative_l2(mine(x, labels), want) <= min(1e-5, relative_l2(theirs(x, labels), want))


def test_an_empty_batch_is_zero_and_not_nan(problem):
    x, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair("ArcFaceLoss", w)
    assert theirs(x[:0], labels[:0]).isnan()
    value = mine(x[:0].requires_grad_(), labels[:0])
    value.backward()
    assert value == 0
    assert (mine.W.grad == 0).all()
