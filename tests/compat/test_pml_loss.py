"""compat.pml against the real pytorch-metric-learning: loss, gradients, logits, state_dict, training."""

from __future__ import annotations

import copy

import pytest
import torch

from basket_softmax.compat import pml as ours
from bbs_kernels import reference
from bbs_kernels.margins import ArcFace, CosFace
from bbs_kernels.rules import Own

upstream = pytest.importorskip("pytorch_metric_learning.losses")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")

NAMES = ("ArcFaceLoss", "CosFaceLoss")
SETTINGS = [{}, {"margin": 10.0, "scale": 30.0}, {"margin": 0.0, "scale": 16}]
MEANINGFUL = 1e-2  # below this loss the cross entropy over fp32 logits of 64 has lost its digits
FLOOR = 2e-6  # relative L2 error of a gradient that needs no excuse


def settings_for(name: str, kwargs: dict) -> dict:
    kwargs = dict(kwargs)
    if name == "CosFaceLoss" and kwargs.get("margin", 0.0) > 1.0:  # the margin of CosFace is not an angle
        kwargs["margin"] = 0.2
    return kwargs


def pair(name: str, w: torch.Tensor, **kwargs: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(ours, upstream) with the same centres w [C, D], in w's dtype."""
    made = []
    for library in (ours, upstream):
        loss = getattr(library, name)(num_classes=w.shape[0], embedding_size=w.shape[1], **kwargs).to(w.dtype)
        loss.W.data.copy_(w.t())
        made.append(loss)
    return made[0], made[1]


def value_and_gradients(
    loss: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    value = loss(x, labels)
    dx, dw = torch.autograd.grad(value, (x, loss.W))
    return value.detach(), dx, dw


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kwargs", SETTINGS)
def test_fp64_loss_and_gradients_are_the_same_numbers(problem, name, kwargs):
    x, w, labels = problem()
    mine, theirs = pair(name, w, **settings_for(name, kwargs))
    for got, want in zip(
        value_and_gradients(mine, x, labels), value_and_gradients(theirs, x, labels), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kwargs", SETTINGS)
def test_fp32_rows_agree_where_upstream_is_meaningful(problem, name, kwargs):
    x, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair(name, w, reducer=reducers.DoNothingReducer(), **settings_for(name, kwargs))
    got = mine(x, labels)["loss"]["losses"]
    want = theirs(x, labels)["loss"]["losses"]
    used = want > MEANINGFUL
    assert used.sum() > 10
    torch.testing.assert_close(got[used], want[used], rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kwargs", SETTINGS)
def test_fp32_is_at_least_as_good_as_upstream(problem, relative_l2, name, kwargs):
    x, w, labels = problem(dtype=torch.float32)
    kwargs = settings_for(name, kwargs)
    _, exact = pair(name, w.double(), **kwargs)
    truth = value_and_gradients(exact, x.double(), labels)
    mine, theirs = pair(name, w, **kwargs)
    for got, peer, want in zip(
        value_and_gradients(mine, x, labels), value_and_gradients(theirs, x, labels), truth, strict=True
    ):
        assert relative_l2(got, want) <= max(FLOOR, 2.0 * relative_l2(peer, want))


@pytest.mark.parametrize(("name", "margin"), [("ArcFaceLoss", ArcFace(0.5)), ("CosFaceLoss", CosFace(0.2))])
def test_well_classified_rows_keep_the_digits_that_upstream_loses(problem, relative_l2, name, margin):
    """Losses down to 6e-8: the fp64 reference decides, and upstream's fp32 is off by its own size."""
    _, w, labels = problem(rows=100, dtype=torch.float32)
    rng = torch.Generator().manual_seed(5)
    x = w[labels] + 0.02 * torch.randn(len(labels), w.shape[1], generator=rng)
    kwargs = {"margin": 0.5 * 180.0 / torch.pi if name == "ArcFaceLoss" else 0.2, "scale": 64.0}
    keep = [i for i, y in enumerate(labels.tolist()) if y % 5 > 1]  # near-duplicate centres are never easy
    x, labels = x[keep], labels[keep]

    wide, centres = x.double().requires_grad_(), w.double().requires_grad_()
    lse, cos_t, _, _ = reference.cos_lse(
        wide, centres, labels, torch.tensor([0, len(w)]), scale=64.0, mining=Own()
    )
    truth = reference.row_losses(lse, margin(cos_t), scale=64.0)
    dx, dw = torch.autograd.grad(truth.mean(), (wide, centres))
    counted = truth.detach() > 2.0**-24  # smaller ones are 0, as upstream: test_pml_reducers.py
    easy = counted & (truth.detach() < 1e-4)
    assert easy.sum() >= 5
    assert not counted.all()

    mine, theirs = pair(name, w, reducer=reducers.DoNothingReducer(), **kwargs)
    got, lost = (loss(x, labels)["loss"]["losses"].detach() for loss in (mine, theirs))
    bound = 1e-6 * truth.clamp_min(1.0) + 4e-7 * 64.0 * -torch.expm1(-truth)
    assert ((got - truth).abs() <= bound).all()
    assert (got[~counted] == 0).all()
    assert (((got - truth) / truth).abs()[easy] < 1e-4).all()
    assert (((lost - truth) / truth).abs()[easy] > 1e-2).any()

    mine, _ = pair(name, w, **kwargs)
    _, got_dx, got_dw = value_and_gradients(mine, x, labels)
    # The mean is dominated by the hardest of these rows; scaled rows of their own size would not be.
    assert relative_l2(got_dx, dx) < 2e-5
    assert relative_l2(got_dw.t(), dw) < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_get_logits(problem, name):
    x, w, _ = problem()
    mine, theirs = pair(name, w, scale=30.0)
    torch.testing.assert_close(mine.get_logits(x), theirs.get_logits(x), rtol=1e-12, atol=1e-12)
    assert mine.get_logits(x.half()).dtype == torch.float64  # W is fp64 here, and stays so


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_centres(name):
    made = []
    for library in (ours, upstream):
        torch.manual_seed(3)
        made.append(getattr(library, name)(97, 23).W)
    assert torch.equal(*made)
    assert made[0].shape == (23, 97)
    assert made[0].dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_attributes(name):
    mine, theirs = (getattr(library, name)(num_classes=7, embedding_size=5) for library in (ours, upstream))
    for attribute in ("num_classes", "margin", "scale", "weight_reg_weight", "embedding_reg_weight"):
        assert getattr(mine, attribute) == pytest.approx(getattr(theirs, attribute), rel=1e-15)
    assert mine.sub_loss_names() == theirs.sub_loss_names()
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_weight_init_func_sees_the_parameter():
    mine = ours.CosFaceLoss(4, 3, weight_init_func=lambda w: torch.nn.init.constant_(w, 0.25))
    assert torch.equal(mine.W, torch.full((3, 4), 0.25))


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_exchange_in_both_directions(problem, name):
    x, w, labels = problem(dtype=torch.float32)
    mine, theirs = pair(name, w)
    fresh = getattr(ours, name)(num_classes=w.shape[0], embedding_size=w.shape[1])
    other = getattr(upstream, name)(num_classes=w.shape[0], embedding_size=w.shape[1])
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    other.load_state_dict(mine.state_dict(), strict=True)
    assert list(mine.state_dict()) == list(theirs.state_dict()) == ["W"]
    assert torch.equal(fresh.W, theirs.W)
    assert torch.equal(other.W, mine.W)
    torch.testing.assert_close(fresh(x, labels), other(x, labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_training_follows_upstream_and_takes_over_its_optimiser(problem, name):
    """Eight steps; half-way the loss and the momentum move to the other library, and nothing is noticed."""
    x, w, labels = problem()
    runs = []
    for first, second in ((0, 1), (1, 0), (1, 1)):  # 0: ours, 1: upstream
        losses = pair(name, w, scale=30.0)
        loss = losses[first]
        optimiser = torch.optim.SGD(loss.parameters(), lr=0.05, momentum=0.9)
        for step in range(8):
            if step == 4:
                saved = copy.deepcopy((loss.state_dict(), optimiser.state_dict()))
                loss = losses[second]
                optimiser = torch.optim.SGD(loss.parameters(), lr=0.05, momentum=0.9)
                loss.load_state_dict(saved[0])
                optimiser.load_state_dict(saved[1])
            optimiser.zero_grad()
            loss(x, labels).backward()
            optimiser.step()
        runs.append(loss.W.detach())
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(runs[1], runs[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_angle_statistic(problem, name):
    x, w, labels = problem()
    mine, theirs = pair(name, w, collect_stats=True)
    mine(x, labels)
    theirs(x, labels)
    assert isinstance(mine._avg_angle, torch.Tensor)  # on the device: no step waits for it, reading does
    assert mine.avg_angle == pytest.approx(theirs.avg_angle, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_label_minus_100_is_no_target_as_in_cross_entropy(problem, name):
    x, w, labels = problem(classes=150)
    labels[::3] = -100
    mine, theirs = pair(name, w)
    got, want = value_and_gradients(mine, x, labels), value_and_gradients(theirs, x, labels)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert (got[1][::3] == 0).all()

    x, w, labels = problem(classes=97)
    mine, theirs = pair(name, w)
    with pytest.raises(
        IndexError
    ):  # it indexes column -100 of its mask first: a difference below 100 classes
        theirs(x, labels.clone().fill_(-100))
    assert mine(x, labels.clone().fill_(-100)) == 0


def test_a_scale_or_margin_assigned_later_is_used(problem):
    x, w, labels = problem()
    mine, theirs = pair("ArcFaceLoss", w)
    for loss in (mine, theirs):
        loss.margin, loss.scale = 0.1, 20.0
    torch.testing.assert_close(mine(x, labels), theirs(x, labels), rtol=1e-10, atol=0)


def test_integer_labels_of_any_width(problem):
    x, w, labels = problem()
    mine, _ = pair("CosFaceLoss", w)
    assert torch.equal(mine(x, labels.int()), mine(x, labels))


def test_compiles_without_a_graph_break(problem):
    x, w, labels = problem(dtype=torch.float32)
    mine, _ = pair("ArcFaceLoss", w)
    want = value_and_gradients(mine, x, labels)
    compiled = torch.compile(mine, fullgraph=True, backend="aot_eager")
    x = x.clone().requires_grad_()
    value = compiled(x, labels)
    dx, dw = torch.autograd.grad(value, (x, mine.W))
    for got, expected in zip((value, dx, dw), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
