"""Hooks of pytorch-metric-learning that a subclass overrides: honoured with upstream's numbers, or refused in words."""

from __future__ import annotations

import inspect
import types

import numpy as np
import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")
from pytorch_metric_learning import distances, reducers, regularizers  # noqa: E402
from pytorch_metric_learning.utils import common_functions as c_f  # noqa: E402
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu  # noqa: E402

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
CLASSES, WIDTH = 97, 23


def pair_of(name: str, body: dict, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    """(ours, upstream): subclasses with the same `body`, in fp64, with the same centres."""
    made = []
    for library in (ours, upstream):
        cls = type("Mine", (getattr(library, name),), dict(body))
        torch.manual_seed(4)
        made.append(cls(num_classes=CLASSES, embedding_size=WIDTH, **kwargs).double())
    return made[0], made[1]


def assert_same(losses: tuple[nn.Module, nn.Module], x: torch.Tensor, labels: torch.Tensor) -> list:
    results = []
    for loss in losses:
        given = x.clone().requires_grad_()
        value = loss(given, labels)
        wanted = (given, *loss.parameters())
        results.append((value.detach(), *torch.autograd.grad(value, wanted)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    return [value for value, *_ in results]


def smaller_for_hard_rows(self, cosine_of_target_classes):
    return cosine_of_target_classes - 0.2 * (cosine_of_target_classes.detach() + 1.0)


def linear_in_the_angle(self, cosine_of_target_classes):
    return 1.0 - 2.0 * (self.get_angles(cosine_of_target_classes) + 0.3) / torch.pi


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hook", [smaller_for_hard_rows, linear_in_the_angle], ids=lambda hook: hook.__name__)
def test_a_margin_of_the_subclass_is_computed(problem, name, hook):
    x, _, labels = problem()
    losses = pair_of(name, {"modify_cosine_of_target_classes": hook}, scale=20.0)
    value, _ = assert_same(losses, x, labels)
    plain = getattr(ours, name)(num_classes=CLASSES, embedding_size=WIDTH, scale=20.0).double()
    plain.load_state_dict(losses[0].state_dict())
    assert abs(value - plain(x, labels)) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_margin_on_top_of_the_default(problem, name):
    x, _, labels = problem()
    made = []
    for library in (ours, upstream):
        base = getattr(library, name)

        class Mine(base):
            def modify_cosine_of_target_classes(self, cosine_of_target_classes):
                return super().modify_cosine_of_target_classes(cosine_of_target_classes) - 0.05

        torch.manual_seed(4)
        made.append(Mine(num_classes=CLASSES, embedding_size=WIDTH).double())
    assert_same((made[0], made[1]), x, labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_margin_assigned_to_the_object_is_computed(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {})
    for loss in losses:
        loss.modify_cosine_of_target_classes = types.MethodType(smaller_for_hard_rows, loss)
    assert_same(losses, x, labels)


def test_a_margin_that_returns_another_shape_is_refused(problem):
    x, _, labels = problem()
    loss, _ = pair_of("CosFaceLoss", {"modify_cosine_of_target_classes": lambda self, cos: cos[:, None]})
    with pytest.raises(ValueError, match=r"expected \[31\], one cosine per row, got \[31, 1\]"):
        loss(x, labels)


def radians_stay(self):
    self.margin = float(self.margin)


@pytest.mark.parametrize("name", NAMES)
def test_init_margin_decides_the_unit(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {"init_margin": radians_stay}, margin=0.3)
    assert losses[0].margin == losses[1].margin == 0.3
    assert_same(losses, x, labels)


def default_sum(self):
    return reducers.SumReducer()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "kwargs", [{}, {"weight_regularizer": regularizers.LpRegularizer()}], ids=["", "two"]
)
def test_get_default_reducer(problem, name, kwargs):
    x, _, labels = problem()
    assert_same(pair_of(name, {"get_default_reducer": default_sum}, **kwargs), x, labels)


@pytest.mark.parametrize("name", NAMES)
def test_get_default_weight_init_func(name):
    body = {"get_default_weight_init_func": lambda self: lambda w: nn.init.constant_(w, 0.25)}
    for loss in pair_of(name, body):
        assert (loss.W == 0.25).all()


@pytest.mark.parametrize("name", NAMES)
def test_get_default_distance(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {"get_default_distance": lambda self: distances.CosineSimilarity()})
    assert_same(losses, x, labels)
    with pytest.raises(ValueError, match="distance: expected None or CosineSimilarity"):
        type("Mine", (getattr(ours, name),), {"get_default_distance": lambda self: distances.LpDistance()})(
            num_classes=5, embedding_size=4
        )


def penalty_of_twice(self, weights):
    return {"losses": 2.0 * weights.square().mean(), "indices": None, "reduction_type": "already_reduced"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["weight", "embedding"])
def test_regularization_losses(problem, name, kind):
    x, _, labels = problem()
    body = {f"{kind}_regularization_loss": penalty_of_twice}
    assert_same(pair_of(name, body, **{f"{kind}_regularizer": regularizers.LpRegularizer()}), x, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reducer", [None, reducers.SumReducer()], ids=["mean", "sum"])
def test_compute_loss_may_add_to_the_dict(problem, name, reducer):
    x, _, labels = problem()
    made = []
    for library in (ours, upstream):

        class Mine(getattr(library, name)):
            def _sub_loss_names(self):
                return ["loss", "norms"]

            def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
                found = super().compute_loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
                found["norms"] = {**found["loss"], "losses": embeddings.norm(dim=1)}
                return found

        torch.manual_seed(4)
        made.append(Mine(num_classes=CLASSES, embedding_size=WIDTH, reducer=reducer).double())
    assert sorted(made[0].sub_loss_names()) == sorted(made[1].sub_loss_names()) == ["loss", "norms"]
    assert_same((made[0], made[1]), x, labels)


def upstreams_steps(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
    """compute_loss of a user who replaces a step of upstream's and calls the others by their names."""
    self.cast_types(embeddings.dtype, embeddings.device)
    weights = lmu.convert_to_weights(indices_tuple, labels, dtype=embeddings.dtype)
    mask = self.get_target_mask(embeddings, labels)
    cosine = self.get_cosine(embeddings)
    target = cosine[mask == 1]
    logits = cosine + mask * (self.modify_cosine_of_target_classes(target) - target)[:, None]
    logits = self.scale_logits(logits, embeddings) - 1e-3 * logits.detach().square()
    losses = self.cross_entropy(logits, labels) * weights
    found = {
        "loss": {
            "losses": losses,
            "indices": c_f.torch_arange_from_size(embeddings),
            "reduction_type": "element",
        }
    }
    self.add_weight_regularization_to_loss_dict(found, self.W.t())
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "more",
    [{}, {"scale_logits": lambda self, logits, *_: logits * (self.scale + 1)}],
    ids=["", "scale_logits"],
)
def test_a_compute_loss_of_its_own_finds_every_step(problem, name, more):
    x, _, labels = problem()
    losses = pair_of(name, {"compute_loss": upstreams_steps, **more})
    assert_same(losses, x, labels)
    torch.testing.assert_close(losses[0].get_logits(x), losses[1].get_logits(x), rtol=1e-10, atol=1e-10)


DENSE = {
    "get_cosine": lambda self, embeddings: embeddings @ self.W,
    "get_target_mask": lambda self, embeddings, labels: nn.functional.one_hot(labels, self.num_classes),
    "scale_logits": lambda self, logits, *_: logits * 2.0,
    "get_angles": lambda self, cosine: torch.acos(cosine.clamp(-0.9, 0.9)),
}
INSTEAD = {
    "get_cosine": "map the embeddings",
    "get_target_mask": "change the labels",
    "scale_logits": "set the attribute `scale`",
    "get_angles": r"override modify_cosine_of_target_classes\(cosine_of_target_classes\)",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hook", DENSE)
def test_hooks_on_all_cosines_are_refused_when_the_class_is_created(name, hook):
    base = getattr(ours, name)
    with pytest.raises(
        TypeError, match=rf"Mine\.{hook}: expected the default, got an override.*{INSTEAD[hook]}"
    ):
        type("Mine", (base,), {hook: DENSE[hook]})
    mixin = type("Mixin", (), {hook: DENSE[hook]})
    with pytest.raises(TypeError, match=hook):
        type("Mine", (mixin, base), {})


@pytest.mark.parametrize("hook", DENSE)
def test_hooks_on_all_cosines_are_refused_wherever_they_are_replaced(problem, hook, monkeypatch):
    x, _, labels = problem(dtype=torch.float32)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    loss(x, labels)
    setattr(loss, hook, types.MethodType(DENSE[hook], loss))
    with pytest.raises(TypeError, match=rf"ArcFaceLoss\.{hook}"):
        loss(x, labels)

    monkeypatch.setattr(ours.ArcFaceLoss, hook, DENSE[hook])
    with pytest.raises(TypeError, match=rf"ArcFaceLoss\.{hook}"):
        ours.ArcFaceLoss(CLASSES, WIDTH)(x, labels)
    monkeypatch.undo()

    class Mine(
        ours.ArcFaceLoss
    ):  # calls the kernels from a compute_loss of its own: the override would be lost
        def compute_loss(self, *args):
            return super().compute_loss(*args)

    setattr(Mine, hook, DENSE[hook])
    with pytest.raises(TypeError, match=rf"Mine\.{hook}"):
        Mine(CLASSES, WIDTH)(x, labels)


def test_angles_and_margin_of_a_subclass_are_honoured_together(problem):
    x, _, labels = problem()
    body = {"get_angles": DENSE["get_angles"], "modify_cosine_of_target_classes": linear_in_the_angle}
    assert_same(pair_of("ArcFaceLoss", body), x, labels)


def test_cast_types_is_called_with_what_upstream_passes(problem):
    x, _, labels = problem(dtype=torch.float32)
    seen = []

    def cast_types(self, dtype, device):
        seen.append((dtype, device))
        self.W.data = self.W.data.to(dtype)

    loss = type("Mine", (ours.ArcFaceLoss,), {"cast_types": cast_types})(CLASSES, WIDTH)
    loss(x.bfloat16(), labels)
    assert seen == [(torch.bfloat16, x.device)]
    assert loss.W.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "cross_entropy",
    [
        nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="none", weight=torch.ones(CLASSES)),
        nn.CrossEntropyLoss(),
        nn.NLLLoss(reduction="none"),
    ],
    ids=["smoothing", "weight", "mean", "other"],
)
def test_another_cross_entropy_is_refused(problem, cross_entropy):
    x, _, labels = problem(dtype=torch.float32)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    loss.cross_entropy = cross_entropy
    with pytest.raises(TypeError, match=r"ArcFaceLoss\.cross_entropy: expected CrossEntropyLoss"):
        loss(x, labels)


def test_ignore_index_of_the_cross_entropy_is_honoured(problem):
    x, _, labels = problem()
    losses = pair_of("CosFaceLoss", {})
    ignored = int(labels[0])
    for loss in losses:
        loss.cross_entropy = nn.CrossEntropyLoss(reduction="none", ignore_index=ignored)
    assert_same(losses, x, labels)
    assert (
        torch.autograd.grad(losses[0](given := x.clone().requires_grad_(), labels), given)[0][0] == 0
    ).all()


def test_a_learned_scale_is_refused_in_words(problem):
    x, _, labels = problem(dtype=torch.float32)
    learned = nn.Parameter(torch.tensor(30.0))
    for name in NAMES:
        with pytest.raises(
            TypeError, match="scale: expected a number, got Parameter that requires a gradient"
        ):
            getattr(ours, name)(num_classes=5, embedding_size=4, scale=learned)
    loss = ours.ArcFaceLoss(CLASSES, WIDTH)
    for later in (learned, torch.tensor(30.0, requires_grad=True)):
        loss.scale = later
        with pytest.raises(TypeError, match="keep pytorch_metric_learning's loss"):
            loss(x, labels)
        del loss.scale
    loss.scale = torch.tensor([30.0, 20.0])
    with pytest.raises(ValueError, match=r"scale: expected a number, got a tensor \[2\]"):
        loss(x, labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_scale_that_is_a_constant_tensor_is_used(problem, name):
    x, _, labels = problem()
    losses = pair_of(name, {})
    for loss in losses:
        loss.scale = torch.tensor(20.0, dtype=torch.float64)
    assert_same(losses, x, labels)


def test_a_learned_margin_of_cosface_gets_its_gradient(problem):
    x, _, labels = problem()
    made = []
    for library in (ours, upstream):
        torch.manual_seed(4)
        margin = nn.Parameter(torch.tensor(0.2))
        made.append(library.CosFaceLoss(CLASSES, WIDTH, margin=margin).double())
    assert [name for name, _ in made[0].named_parameters()] == [
        name for name, _ in made[1].named_parameters()
    ]
    assert "margin" in made[0].state_dict()
    assert_same((made[0], made[1]), x, labels)
    assert "margin=Parameter" in repr(made[0])


def test_margins_per_row(problem):
    x, _, labels = problem()
    margins = torch.linspace(0.0, 0.4, len(x), dtype=torch.float64)
    losses = pair_of("CosFaceLoss", {})
    for loss in losses:
        loss.margin = margins
    assert_same(losses, x, labels)
    angular, _ = pair_of("ArcFaceLoss", {})
    angular.margin = margins
    with pytest.raises(ValueError, match="override modify_cosine_of_target_classes"):
        angular(x, labels)
    with pytest.raises(TypeError, match=r"margin: expected a number, got Parameter.*override modify_cosine"):
        ours.ArcFaceLoss(5, 4, margin=nn.Parameter(torch.tensor(28.6)))


def test_every_method_of_upstream_is_here_and_takes_its_arguments():
    """A hook that is new upstream fails here, so that it is honoured or refused and not inherited by chance."""
    multiple_angle = {
        "get_cos_with_margin"
    }  # of LargeMarginSoftmaxLoss's own formula; these three never call it
    for name in NAMES:
        mine, theirs = getattr(ours, name), getattr(upstream, name)
        for method, function in inspect.getmembers(theirs, inspect.isfunction):
            if method in dir(nn.Module) or method in multiple_angle | {
                "__init__",
                "forward",
                "regularization_loss_names",
            }:
                continue
            here = getattr(mine, method)
            assert here.__module__.startswith("basket_softmax"), f"{name}.{method} is upstream's"
            wanted = [
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.kind == p.POSITIONAL_OR_KEYWORD
            ]
            accepted = list(inspect.signature(here).parameters)
            assert accepted[: len(wanted)] == wanted, f"{name}.{method}: {accepted}, upstream {wanted}"


def test_a_regularizer_mixin_of_the_users_own(problem):
    x, _, labels = problem()

    class NormRegularizerMixin:
        def __init__(self, norm_regularizer=None, **kwargs):
            self.norm_regularizer = norm_regularizer is not None
            super().__init__(**kwargs)
            self.norm_regularizer = norm_regularizer

        def regularization_loss_names(self):
            return ["norm_reg_loss"]

    made = []
    for library in (ours, upstream):

        class Mine(NormRegularizerMixin, library.CosFaceLoss):
            def compute_loss(self, embeddings, *args):
                found = super().compute_loss(embeddings, *args)
                value = self.norm_regularizer(embeddings)
                found["norm_reg_loss"] = {
                    "losses": value,
                    "indices": None,
                    "reduction_type": "already_reduced",
                }
                return found

        torch.manual_seed(4)
        regularizer = regularizers.LpRegularizer()
        made.append(Mine(num_classes=CLASSES, embedding_size=WIDTH, norm_regularizer=regularizer).double())
    assert sorted(made[0].sub_loss_names()) == sorted(made[1].sub_loss_names()) == ["loss", "norm_reg_loss"]
    assert_same((made[0], made[1]), x, labels)


def test_degrees_as_numpy_has_them():
    for name in ("ArcFaceLoss", "SubCenterArcFaceLoss"):
        mine = getattr(ours, name)(num_classes=5, embedding_size=4, margin=np.float64(30.0))
        assert mine.margin == pytest.approx(np.radians(30.0), rel=1e-15)
