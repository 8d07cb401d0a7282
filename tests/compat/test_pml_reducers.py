"""Reducers that drop rows by their value: which rows have the loss 0 upstream, in compat.pml and in any other order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")
from pytorch_metric_learning import miners, reducers, regularizers  # noqa: E402

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
HALF_ULP = 2.0**-24  # of 1 in fp32: the largest r with 1 + r == 1
# Upstream adds r to the target's 1 term by term: from half an ulp up to here, the order of the classes decides.
ORDER_DECIDES = 2.0**-22
CLASSES, WIDTH, ROWS = 97, 128, 400


class CountAboveZero(nn.Module):
    """A reducer of a user's own that drops rows by value."""

    def forward(self, loss_dict, embeddings, labels):
        losses = loss_dict["loss"]["losses"]
        return losses.sum() / (losses > 0).sum().clamp_min(1)


REDUCERS = [
    reducers.AvgNonZeroReducer(),
    reducers.ThresholdReducer(low=0.0, high=10.0),
    reducers.ThresholdReducer(low=1e-9),
    reducers.PerAnchorReducer(reducer=reducers.AvgNonZeroReducer()),
    reducers.MultipleReducers({"loss": reducers.AvgNonZeroReducer()}),
    CountAboveZero(),
]


def pair(name: str, w: torch.Tensor, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    made = []
    for library in (ours, upstream):
        torch.manual_seed(2)
        loss = getattr(library, name)(num_classes=CLASSES, embedding_size=WIDTH, **kwargs).to(w.dtype)
        wide = w.repeat_interleave(getattr(loss, "sub_centers", 1), dim=0)
        loss.W.data = (wide + 0.01 * torch.arange(len(wide), dtype=w.dtype)[:, None].sin()).t().contiguous()
        made.append(loss)
    return made[0], made[1]


def rows_of(loss: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    reducer, loss.reducer = loss.reducer, reducers.DoNothingReducer()
    losses = loss(x, labels)["loss"]["losses"].detach()
    loss.reducer = reducer
    return losses


def data(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows from one on its centre to one that is lost in noise: losses from far below 1e-16 to above 40."""
    g = torch.Generator().manual_seed(8)
    w = torch.randn(CLASSES, WIDTH, generator=g, dtype=torch.float64)
    labels = torch.randint(CLASSES, (ROWS,), generator=g)
    noise = torch.linspace(0.0, 3.0, ROWS, dtype=torch.float64)[:, None]
    x = w[labels] + noise * torch.randn(ROWS, WIDTH, generator=g, dtype=torch.float64)
    return x.to(dtype), w.to(dtype), labels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda reducer: type(reducer).__name__)
@pytest.mark.parametrize("mined", [False, True], ids=["", "mined"])
def test_rows_that_upstream_rounds_to_zero_do_not_count(name, reducer, mined):
    x, w, labels = data(torch.float32)
    mine, theirs = pair(name, w, reducer=reducer)
    exact, _ = pair(name, w.double())
    true = rows_of(exact, x.double(), labels)
    used = (true < HALF_ULP / 2) | (true > 2 * ORDER_DECIDES)
    x, labels, true = x[used], labels[used], true[used]
    assert (true < HALF_ULP).sum() > 40
    assert ((true > HALF_ULP) & (true < 1e-3)).sum() > 5
    counts = rows_of(theirs, x, labels) != 0
    assert torch.equal(rows_of(mine, x, labels) != 0, counts)
    assert torch.equal(true > HALF_ULP, counts)
    found = miners.MultiSimilarityMiner()(x, labels) if mined else None
    value, want = mine(x, labels, found), theirs(x, labels, found)
    torch.testing.assert_close(value, want, rtol=1e-5, atol=0)
    plain, _ = pair(name, w)
    assert value > 1.1 * plain(x, labels, found) or isinstance(reducer, reducers.ThresholdReducer)


@pytest.mark.parametrize("name", NAMES)
def test_in_fp64_too(name):
    x, w, labels = data(torch.float64)
    mine, theirs = pair(name, w, reducer=reducers.AvgNonZeroReducer(), scale=100)
    losses = rows_of(mine, x, labels)
    used = (losses == 0) | (losses > 1e-15)
    assert (losses == 0).sum() > 10
    torch.testing.assert_close(mine(x[used], labels[used]), theirs(x[used], labels[used]), rtol=1e-9, atol=0)


def test_between_the_bounds_upstream_decides_by_the_order_of_the_classes():
    """What stays different: a window of a factor of four in which upstream itself gives either answer."""
    g = torch.Generator().manual_seed(8)
    w = torch.randn(CLASSES, WIDTH, generator=g)
    labels = torch.randint(CLASSES, (4096,), generator=g)
    x = w[labels] + torch.linspace(0.5, 1.2, 4096)[:, None] * torch.randn(4096, WIDTH, generator=g)
    mine, theirs = pair("CosFaceLoss", w)
    order = torch.randperm(CLASSES, generator=g)
    _, other = pair("CosFaceLoss", w)
    other.W.data = theirs.W.data[:, order].contiguous()
    here, one = rows_of(mine, x, labels), rows_of(theirs, x, labels)
    two = rows_of(other, x, order.argsort()[labels])
    assert (here == 0).sum() > 10
    assert (here[here < 0.99 * HALF_ULP] == 0).all()
    moved = (one == 0) != (two == 0)
    assert moved.any(), "upstream no longer depends on the order: count its rows exactly"
    assert here[moved].min() > 0.99 * HALF_ULP
    assert here[moved].max() < ORDER_DECIDES
    differ = (here == 0) != (one == 0)
    assert (here[differ] < ORDER_DECIDES).all()
    assert not ((here < 0.99 * HALF_ULP) & (one != 0)).any(), "a row that upstream counts is left out"


@pytest.mark.parametrize("reducer", [None, reducers.SumReducer()], ids=["mean", "sum"])
def test_a_row_with_the_value_zero_keeps_its_gradient(reducer):
    x, w, labels = data(torch.float32)
    mine, _ = pair("ArcFaceLoss", w, reducer=reducer)
    exact, _ = pair("ArcFaceLoss", w.double(), reducer=reducer)
    easy = (losses := rows_of(exact, x.double(), labels)) < HALF_ULP
    easy &= losses > 1e-12
    assert easy.sum() > 5
    given, wide = x[easy].clone().requires_grad_(), x[easy].double().requires_grad_()
    value = mine(given, labels[easy])
    assert value == 0
    (got,) = torch.autograd.grad(value, given)
    (want,) = torch.autograd.grad(exact(wide, labels[easy]), wide)
    assert want.norm() > 0
    assert (got.double() - want).norm() < 1e-3 * want.norm()


def test_a_regularizer_beside_it():
    x, w, labels = data(torch.float32)
    kwargs = {"reducer": reducers.AvgNonZeroReducer(), "weight_regularizer": regularizers.LpRegularizer()}
    mine, theirs = pair("ArcFaceLoss", w, **kwargs)
    losses = rows_of(pair("ArcFaceLoss", w)[0], x, labels)
    assert (losses == 0).sum() > 40
    used = (losses == 0) | (losses > ORDER_DECIDES)
    torch.testing.assert_close(mine(x[used], labels[used]), theirs(x[used], labels[used]), rtol=1e-5, atol=0)
