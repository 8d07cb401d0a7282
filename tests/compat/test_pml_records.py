"""Statistics, record lists and types of compat.pml beside those of pytorch-metric-learning."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours
from basket_softmax.compat.pml.distance import CosineSimilarity

upstream = pytest.importorskip("pytorch_metric_learning.losses")
from pytorch_metric_learning import distances, reducers, regularizers  # noqa: E402
from pytorch_metric_learning.losses.base_metric_loss_function import BaseMetricLossFunction  # noqa: E402
from pytorch_metric_learning.utils import common_functions as c_f  # noqa: E402

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
LISTS = ("_record_these", "_record_these_stats")
ARGUMENTS = [
    {},
    {"embedding_regularizer": regularizers.LpRegularizer()},
    {
        "weight_regularizer": regularizers.LpRegularizer(),
        "embedding_regularizer": regularizers.LpRegularizer(),
    },
    {"reducer": reducers.AvgNonZeroReducer()},
]


def pair(name: str, w: torch.Tensor, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    made = []
    for library in (ours, upstream):
        loss = getattr(library, name)(num_classes=w.shape[0], embedding_size=w.shape[1], **kwargs).to(w.dtype)
        wide = w.repeat_interleave(getattr(loss, "sub_centers", 1), dim=0)
        loss.W.data = (wide + 0.01 * torch.arange(len(wide), dtype=w.dtype)[:, None].sin()).t()
        made.append(loss)
    return made[0], made[1]


def recorded(part: nn.Module) -> dict:
    """Every recorded attribute of the loss and of the parts below it, by path."""
    return {
        f"{path}.{name}": getattr(module, name)
        for path, module in part.named_modules()
        for key in LISTS
        for name in getattr(module, key, ())
    }


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kwargs", ARGUMENTS, ids=lambda kwargs: "+".join(kwargs) or "plain")
def test_the_global_switch_records_what_upstream_records(problem, monkeypatch, collect, name, kwargs):
    x, w, labels = problem()
    monkeypatch.setattr(c_f, "COLLECT_STATS", collect)
    mine, theirs = pair(name, w, **copy.deepcopy(kwargs))
    for loss in (mine, theirs):
        loss(x, labels)
    got, want = recorded(mine), recorded(theirs)
    assert list(mine._record_these) == list(theirs._record_these)
    assert got.keys() == want.keys()
    assert any("avg_angle" in name for name in got) == collect
    for key, value in want.items():
        assert not isinstance(got[key], torch.Tensor), key
        assert got[key] == (value if value is None else pytest.approx(value, rel=1e-9)), key


@pytest.mark.parametrize("name", NAMES)
def test_one_loss_collects_alone(problem, name):
    x, w, labels = problem()
    mine, theirs = pair(name, w, collect_stats=True)
    for loss in (mine, theirs):
        loss(x, labels)
        assert not loss.distance.collect_stats
    assert mine.avg_angle == pytest.approx(theirs.avg_angle, rel=1e-9) != 0.0
    for loss in (mine, theirs):
        loss.reset_stats()
        assert loss.avg_angle == 0.0


def test_a_margin_of_the_subclass_decides_whether_angles_are_collected(problem):
    x, w, labels = problem()
    for uses_angles in (False, True):

        def psi(self, cosine, uses_angles=uses_angles):
            return self.get_angles(cosine).cos() - 0.1 if uses_angles else cosine - 0.1

        values = []
        for library in (ours, upstream):
            cls = type("Mine", (library.ArcFaceLoss,), {"modify_cosine_of_target_classes": psi})
            loss = cls(len(w), w.shape[1], collect_stats=True).double()
            loss.W.data = w.t().clone()
            loss(x, labels)
            values.append(loss.avg_angle)
        assert values[0] == pytest.approx(values[1], rel=1e-9)
        assert (values[0] != 0.0) == uses_angles


def test_statistics_do_not_break_the_graph(problem):
    x, w, labels = problem(dtype=torch.float32)
    mine, _ = pair("ArcFaceLoss", w, collect_stats=True)
    mine(x, labels)
    want = mine.avg_angle
    mine.reset_stats()
    torch.compile(mine, fullgraph=True, backend="aot_eager")(x, labels)
    assert mine.avg_angle == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_of_upstreams_types(problem, name):
    x, w, _ = problem()
    for kwargs in ({}, {"weight_regularizer": regularizers.LpRegularizer()}):
        mine, theirs = pair(name, w, **kwargs)
        assert isinstance(mine, BaseMetricLossFunction)
        assert isinstance(mine.reducer, type(theirs.reducer))
        assert type(mine.reducer).__name__ == type(theirs.reducer).__name__
        assert type(mine.distance) is type(theirs.distance) is distances.CosineSimilarity
        assert {path for path, _ in mine.named_modules()} == {path for path, _ in theirs.named_modules()}
        c_f.assert_distance_type(mine, distances.CosineSimilarity)
        torch.testing.assert_close(mine.distance(x, mine.W.t()), theirs.distance(x, theirs.W.t()))
        again = pickle.loads(pickle.dumps(mine))
        assert type(again) is type(mine)
        assert torch.equal(again.W, mine.W)


def test_a_distance_that_is_changed_later_is_refused(problem):
    x, w, labels = problem()

    class Sharper(distances.CosineSimilarity):
        def compute_mat(self, query_emb, ref_emb):
            return super().compute_mat(query_emb, ref_emb) ** 3

    class Named(distances.CosineSimilarity):  # adds, but does not change the cosines
        def nickname(self):
            return "cosine"

    mine, _ = pair("ArcFaceLoss", w, distance=Named())
    assert mine(x, labels).isfinite()
    with pytest.raises(ValueError, match="got Sharper, which overrides compute_mat"):
        pair("ArcFaceLoss", w, distance=Sharper())
    mine.distance.power = 2
    with pytest.raises(ValueError, match="power=2"):
        mine(x, labels)
    for later in (distances.LpDistance(), None):
        mine.distance = later
        with pytest.raises(ValueError, match="distance: expected None or CosineSimilarity"):
            mine(x, labels)


def test_the_distance_without_upstream_is_upstreams(problem, monkeypatch):
    x, w, _ = problem()
    monkeypatch.setattr(c_f, "COLLECT_STATS", True)
    mine, theirs = CosineSimilarity(), distances.CosineSimilarity()
    for arguments in ((x, w), (x,)):
        torch.testing.assert_close(mine(*arguments), theirs(*arguments), rtol=1e-12, atol=1e-12)
        got, want = recorded(mine), recorded(theirs)
        assert got.keys() == want.keys()
        for key, value in want.items():
            assert got[key] == pytest.approx(value, rel=1e-12)
    for call in (
        lambda d: d.pairwise_distance(x, x.flip(0)),
        lambda d: d.normalize(x),
        lambda d: d.get_norm(x),
        lambda d: d.get_norm(w, dim=0),
        lambda d: d.smallest_dist(x, dim=1).values,
        lambda d: d.largest_dist(x, dim=1).values,
        lambda d: d.margin(x, 2 * x),
    ):
        torch.testing.assert_close(call(mine), call(theirs), rtol=1e-12, atol=1e-12)
    for name in ("p", "power", "is_inverted", "normalize_embeddings"):
        assert getattr(mine, name) == getattr(theirs, name)


def test_zero_losses_are_upstreams(problem):
    _, w, _ = problem()
    mine, theirs = pair("CosFaceLoss", w, weight_regularizer=regularizers.LpRegularizer())
    assert mine.zero_loss() == theirs.zero_loss()
    assert mine.zero_losses() == theirs.zero_losses()
    x = torch.ones(3, w.shape[1], dtype=w.dtype, requires_grad=True)
    for loss in (mine, theirs):
        value = loss.reducer(loss.zero_losses(), x, torch.zeros(3))
        assert value == 0.0
