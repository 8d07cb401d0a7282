"""Hooks of pytorch-metric-learning that a subclass overrides: honoured with upstream's numbers."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from basket_softmax.compat import pml as ours

upstream = pytest.importorskip("pytorch_metric_learning.losses")
from pytorch_metric_learning import distances, reducers, regularizers  # noqa: E402
from pytorch_metric_learning.utils import common_functions as c_f  # noqa: E402
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu  # noqa: E402

from .pml_subclasses import CLASSES, NAMES, WIDTH, assert_same, pair_of  # noqa: E402


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


def angles_within_bounds(self, cosine_of_target_classes):
    return torch.acos(cosine_of_target_classes.clamp(-0.9, 0.9))


def test_angles_and_margin_of_a_subclass_are_honoured_together(problem):
    x, _, labels = problem()
    body = {"get_angles": angles_within_bounds, "modify_cosine_of_target_classes": linear_in_the_angle}
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
