"""compat.pml with pytorch-metric-learning's own miners, reducers, regularizers and wrappers."""

from __future__ import annotations

import pytest
import torch

from basket_softmax.compat import pml as ours
from basket_softmax.compat.pml.miners import row_weights

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers  # noqa: E402
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_weights  # noqa: E402

NAMES = ("ArcFaceLoss", "CosFaceLoss")
MINERS = [
    miners.TripletMarginMiner(margin=0.2),
    miners.MultiSimilarityMiner(epsilon=0.1),
    miners.BatchHardMiner(),
    miners.PairMarginMiner(pos_margin=0.2, neg_margin=0.8),
]
REDUCERS = [
    reducers.MeanReducer(),
    reducers.SumReducer(),
    reducers.AvgNonZeroReducer(),
    reducers.ThresholdReducer(low=1.0, high=6.0),
    reducers.ClassWeightedReducer(torch.linspace(0.1, 2.0, 12)),
    reducers.PerAnchorReducer(),
    reducers.MultipleReducers({"loss": reducers.SumReducer()}),
]


def class_name(part: object) -> str:
    return type(part).__name__


def pair(name: str, w: torch.Tensor, **kwargs: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    made = []
    for library in (ours, losses):
        loss = getattr(library, name)(num_classes=w.shape[0], embedding_size=w.shape[1], **kwargs).to(w.dtype)
        loss.W.data.copy_(w.t())
        made.append(loss)
    return made[0], made[1]


def assert_same(mine: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor, *args: object) -> None:
    results = []
    for loss in (mine, theirs):
        leaf = x.clone().requires_grad_()
        value = loss(leaf, *args)
        results.append((value.detach(), *torch.autograd.grad(value, (leaf, loss.W), allow_unused=True)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("miner", MINERS, ids=class_name)
def test_miners(problem, name, miner):
    x, w, labels = problem(rows=40, classes=12)
    mined = miner(x, labels)
    assert any(len(part) for part in mined)
    weights = row_weights(mined, labels, torch.float64)
    assert torch.equal(weights, convert_to_weights(mined, labels, torch.float64))
    assert weights.min() < 1.0 == weights.max()
    assert_same(*pair(name, w), x, labels, mined)


def test_a_miner_that_found_nothing_means_all_rows(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, theirs = pair("ArcFaceLoss", w)
    for empty in [(torch.tensor([]),) * 3, (torch.tensor([], dtype=torch.int64),) * 4]:
        assert_same(mine, theirs, x, labels, empty)
        assert torch.equal(mine(x, labels, empty), mine(x, labels))


def test_one_empty_part_of_a_miner_tuple(problem):
    x, w, labels = problem(rows=40, classes=12)
    nothing = torch.tensor([], dtype=torch.int64)
    assert_same(
        *pair("CosFaceLoss", w),
        x,
        labels,
        (torch.tensor([3, 3, 5]), torch.tensor([4, 7, 3]), nothing, nothing),
    )


def test_what_is_no_miner_tuple_is_named(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, _ = pair("ArcFaceLoss", w)
    for wrong in (torch.ones(40), (torch.ones(40),), "all"):
        with pytest.raises(TypeError, match="indices_tuple: expected what a miner returns"):
            mine(x, labels, wrong)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reducer", REDUCERS, ids=class_name)
def test_reducers(problem, name, reducer):
    x, w, labels = problem(rows=40, classes=12)
    # At scale 8 no row is so easy that upstream rounds its loss to 0, and AvgNonZeroReducer leaves it out.
    mined = MINERS[1](x, labels)
    assert_same(*pair(name, w, reducer=reducer, scale=8.0), x, labels)
    assert_same(*pair(name, w, reducer=reducer, scale=8.0), x, labels, mined)


def test_do_nothing_reducer_returns_the_rows(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, theirs = pair("ArcFaceLoss", w, reducer=reducers.DoNothingReducer())
    got, want = mine(x, labels)["loss"], theirs(x, labels)["loss"]
    assert got.keys() == want.keys()
    assert got["reduction_type"] == want["reduction_type"] == "element"
    assert torch.equal(got["indices"], want["indices"])
    torch.testing.assert_close(got["losses"], want["losses"], rtol=1e-9, atol=1e-12)


def test_a_reducer_is_copied_and_any_callable_is_one(problem):
    x, w, labels = problem(rows=40, classes=12)
    reducer = reducers.MeanReducer()
    mine, _ = pair("ArcFaceLoss", w, reducer=reducer)
    assert mine.reducer is not reducer
    rows, _ = pair("ArcFaceLoss", w, reducer=reducers.DoNothingReducer())
    largest = ours.ArcFaceLoss(12, 23, reducer=lambda d, x, y: d["loss"]["losses"].max()).double()
    largest.load_state_dict(rows.state_dict())
    assert torch.equal(largest(x, labels), rows(x, labels)["loss"]["losses"].max())
    with pytest.raises(TypeError, match="reducer: expected None or a callable reducer"):
        ours.ArcFaceLoss(12, 4, reducer="mean")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "reducer", [None, reducers.SumReducer(), reducers.AvgNonZeroReducer()], ids=class_name
)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"weight_regularizer": regularizers.RegularFaceRegularizer(), "weight_reg_weight": 0.3},
        {"weight_regularizer": regularizers.CenterInvariantRegularizer()},
        {"embedding_regularizer": regularizers.LpRegularizer(p=2), "embedding_reg_weight": 0.05},
        {
            "weight_regularizer": regularizers.LpRegularizer(power=2),
            "embedding_regularizer": regularizers.LpRegularizer(),
        },
    ],
    ids=lambda kwargs: "+".join(class_name(v) for v in kwargs.values() if callable(v)),
)
def test_regularizers(problem, name, reducer, kwargs):
    x, w, labels = problem(rows=40, classes=12)
    mine, theirs = pair(name, w, reducer=reducer, scale=8.0, **kwargs)
    assert sorted(mine.sub_loss_names()) == sorted(theirs.sub_loss_names())
    assert_same(mine, theirs, x, labels)


def test_regularizers_with_a_reducer_per_loss_and_state_dict(problem):
    x, w, labels = problem(rows=40, classes=12)
    kwargs = {
        "weight_regularizer": regularizers.LpRegularizer(),
        "reducer": reducers.MultipleReducers({"loss": reducers.SumReducer()}),
    }
    mine, theirs = pair("ArcFaceLoss", w, **kwargs)
    assert_same(mine, theirs, x, labels)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(mine.state_dict(), strict=True)


def test_inside_multiple_losses(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, theirs = pair("ArcFaceLoss", w)
    values = [
        losses.MultipleLosses([loss, losses.TripletMarginLoss()], weights=[1.0, 0.5])(x, labels)
        for loss in (mine, theirs)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=0)


def test_cosine_distance_is_taken_and_others_are_named():
    assert ours.ArcFaceLoss(5, 4, distance=distances.CosineSimilarity()).distance is not None
    for wrong in (
        distances.LpDistance(),
        distances.DotProductSimilarity(),
        distances.CosineSimilarity(power=2),
    ):
        with pytest.raises(
            ValueError,
            match="distance: expected None or CosineSimilarity with p=2, power=1 and normalize_embeddings=True",
        ):
            ours.ArcFaceLoss(5, 4, distance=wrong)


def test_ref_emb_as_upstream(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, theirs = pair("CosFaceLoss", w)
    for loss in (mine, theirs):
        with pytest.raises(ValueError, match="ref_emb is not supported"):
            loss(x, labels, ref_emb=x.clone(), ref_labels=labels)
        loss(x, labels, ref_emb=x, ref_labels=labels)  # the batch itself


def test_wrong_arguments_are_named(problem):
    x, w, labels = problem(rows=40, classes=12)
    mine, _ = pair("ArcFaceLoss", w)
    with pytest.raises(ValueError, match="labels are required"):
        mine(x)
    with pytest.raises(ValueError, match=r"labels: expected \[40\], got \[40, 1\]"):
        mine(x, labels[:, None])
    with pytest.raises(TypeError, match="labels: expected a tensor of class indices"):
        mine(x, labels.double())
    with pytest.raises(ValueError, match=r"embeddings: expected \[B, 23\], got \[40, 22\]"):
        mine(x[:, :22], labels)
    # Upstream moves its parameter instead.
    with pytest.raises(ValueError, match="W is on cpu, the embeddings on meta"):
        mine(x.to("meta"), labels)
    for outside in (12, -1):  # -1 is no ignore label here: upstream raises as well
        with pytest.raises((ValueError, IndexError, RuntimeError), match=str(outside)):
            mine(x, labels.clone().fill_(outside))
    for kwargs, message in [
        ({"margin": 200.0}, r"ArcFaceLoss: margin: expected degrees in \[0, 180\), got 200$"),
        ({"scale": 0.0}, "ArcFaceLoss: scale: expected a number above 0"),
        ({"num_classes": 0}, "num_classes: expected a positive int"),
    ]:
        with pytest.raises(ValueError, match=message):
            ours.ArcFaceLoss(**({"num_classes": 5, "embedding_size": 4} | kwargs))
    with pytest.raises(TypeError, match="sub_centers"):
        ours.ArcFaceLoss(5, 4, sub_centers=3)
