"""The head as a module: construction, state_dict, copies, dtypes, AMP, compilation, and settings changed later."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch

import basket_softmax as bs
from losses.planted import SIZES, exact, planted


def test_initialisation() -> None:
    torch.manual_seed(0)
    head = bs.BasketSoftmaxLoss([300, 200], 64)
    assert head.weight.dtype == torch.float32
    assert head.weight.mean().abs() < 2e-4
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (head.margin, head.scale, head.mining) == (bs.ArcFace(0.5), 64.0, bs.TopK(64, 1))
    assert (head.reduction, head.ignore_index, head.aliases) == ("mean", -1, None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedding_size": 0}, ValueError, "embedding_size is 0, allowed is a positive int"),
        ({"scale": 0.0}, ValueError, r"scale is 0\.0, allowed are values above 0, up to 1e\+06"),
        ({"scale": "64"}, TypeError, "scale must be a number"),
        ({"scale": math.inf}, ValueError, "scale is inf"),
        ({"mining": "topk"}, TypeError, "mining must be"),
        ({"margin": 0.5}, TypeError, "margin must be callable"),
        ({"reduction": "avg"}, ValueError, "reduction is 'avg', allowed are 'mean', 'sum', 'none'"),
        ({"aliases": torch.zeros(5, dtype=torch.int64)}, ValueError, r"aliases has shape \(5,\), allowed is \(97,\)"),
        ({"aliases": torch.zeros(97)}, TypeError, "aliases must be an int64 tensor"),
        ({"sample_rate": 0.0}, ValueError, r"sample_rate is 0.0, allowed is \(0, 1\]"),
        ({"dtype": torch.float16}, TypeError, "allowed are float32 and float64"),
        ({"baskets": {"a": -1}}, ValueError, r"baskets\['a'\] must be >= 0"),
    ],
)  # fmt: skip
def test_refused_arguments(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bs.BasketSoftmaxLoss(**{"baskets": SIZES, "embedding_size": 24, **options})


def test_refused_inputs() -> None:
    head, batch = planted()
    with pytest.raises(ValueError, match=r"embeddings has shape \(37, 5\), allowed is \[B, 24\]"):
        head(torch.zeros(37, 5), batch.labels)
    with pytest.raises(ValueError, match="labels has shape"):
        head(batch.x, batch.labels[1:])
    with pytest.raises(TypeError, match=r"labels: expected a tensor of class indices .* got torch\.float32"):
        head(batch.x, batch.labels.float())
    with pytest.raises(TypeError, match=r"weight is torch\.float32 with embeddings torch\.float64"):
        head(batch.x.double(), batch.labels)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\), allowed is \(37,\)"):
        head(*batch, sample_weight=torch.ones(3))
    with pytest.raises(RuntimeError, match="97"):
        head(batch.x, torch.full_like(batch.labels, 97))


def test_local_labels() -> None:
    head, batch = planted()
    want = head(*batch)
    local, basket = head.baskets.to_local(batch.labels)
    assert torch.equal(head(batch.x, local, basket=basket.clamp_min(0)), want)
    rows = (batch.labels >= 31) & (batch.labels < 48)
    want = head(batch.x[rows], batch.labels[rows])
    for basket in ("b", 1):
        assert torch.equal(head(batch.x[rows], batch.labels[rows] - 31, basket=basket), want)
    with pytest.raises(ValueError, match=r"labels\[0\] is 17, allowed in basket 'b' are 0 to 16"):
        head(batch.x[:1], torch.tensor([17]), basket="b")


def test_state_dict() -> None:
    head, batch = planted()
    assert list(head.state_dict()) == ["weight"]
    guarded, _ = planted(bs.TopK(5, 1, bs.Ema(0.5)))
    assert list(guarded.state_dict()) == ["weight", "ema"]
    assert guarded.ema.isinf().all()
    guarded(*batch)
    other, _ = planted(bs.Below(bs.Ema(0.7)), seed=1)
    other.load_state_dict(guarded.state_dict())
    assert torch.equal(other.weight, guarded.weight)
    assert torch.equal(other.ema, guarded.ema)
    aliased, _ = planted(aliases=torch.zeros(97, dtype=torch.int64))
    assert list(aliased.state_dict()) == ["weight"]


def test_ema_buffer_follows_the_rule() -> None:
    head, batch = planted()
    head.mining = bs.Below(bs.Ema(0.5))
    assert list(head.state_dict()) == ["weight", "ema"]
    head(*batch)
    head.mining = bs.TopK(5, 1, bs.Ema(0.3))  # another use of the same means
    assert not head.ema.isinf().all()
    head.mining = bs.TopK(5, 1)
    assert list(head.state_dict()) == ["weight"]


@pytest.mark.parametrize("through", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_independent_and_give_the_same(through: str) -> None:
    head, batch = planted(
        bs.TopK(5, 1, bs.Ema(0.5)), aliases=torch.arange(97) // 2 - 1, margin=bs.CosFace(0.2), scale=30.0
    )
    head(*batch)
    if through == "deepcopy":
        twin = copy.deepcopy(head)
    elif through == "pickle":
        twin = pickle.loads(pickle.dumps(head))
    else:
        buffer = io.BytesIO()
        torch.save(head, buffer)
        buffer.seek(0)
        twin = torch.load(buffer, weights_only=False)
    assert torch.equal(twin.eval()(*batch), head.eval()(*batch))
    assert twin.baskets == head.baskets
    with torch.no_grad():
        twin.weight.zero_()
    assert not head.weight.eq(0).all()


def test_to_dtype_keeps_offsets_on_the_cpu() -> None:
    head, batch = planted(bs.Below(bs.Ema(0.5)))
    head.double()
    assert head.weight.dtype == head.ema.dtype == torch.float64
    assert head(batch.x.double(), batch.labels).dtype == torch.float64
    moved = bs.BasketSoftmaxLoss(SIZES, 24, device="meta")
    assert moved.baskets.offsets.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_embeddings_and_not_centres(dtype: torch.dtype) -> None:
    head, batch = planted(margin=bs.ArcFace(0.2))
    with torch.autocast("cpu", dtype=dtype):
        loss = head(*batch)
    assert loss.dtype == torch.float32
    loss.backward()
    assert batch.x.grad.dtype == head.weight.grad.dtype == torch.float32
    assert head.weight.dtype == torch.float32
    again = batch.again()
    want = head(again.x.to(dtype), again.labels)
    assert torch.equal(loss, want)


@pytest.mark.parametrize("mining", [bs.TopK(3, 1), bs.Below(bs.Ema(0.5)), bs.All()], ids=str)
@pytest.mark.parametrize(
    "margin", [bs.ArcFace(), bs.AdaFace(), bs.SphereFace(1.4), bs.MagFace()], ids=lambda m: type(m).__name__
)
def test_compiles_without_a_graph_break(mining, margin) -> None:
    torch._dynamo.reset()
    head, batch = planted(mining, margin=margin)
    twin, again = copy.deepcopy(head), batch.again()
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        loss, want = compiled(*batch), twin(*again)
        torch.testing.assert_close(loss, want, rtol=1e-6, atol=0.0)
        loss.backward()
        want.backward()
    torch.testing.assert_close(batch.x.grad, again.x.grad, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(head.weight.grad, twin.weight.grad, rtol=1e-5, atol=1e-8)
    for key, value in twin.stats().items():
        torch.testing.assert_close(head.stats()[key], value)


def test_compiles_around_mapped_negatives() -> None:
    """A break in the graph, no more: the pass over the blocks runs as it is."""
    torch._dynamo.reset()
    head, batch = planted(margin=bs.CurricularFace())
    twin = copy.deepcopy(head)
    compiled = torch.compile(head, backend="aot_eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(*batch), twin(*batch), rtol=1e-6, atol=0.0)
    assert head.margin.t == twin.margin.t != 0.0


def test_compiles_with_local_labels_and_weights() -> None:
    torch._dynamo.reset()
    head, batch = planted()
    local, basket = head.baskets.to_local(batch.labels)
    weight = torch.rand(37)
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    want = head(batch.x, batch.labels, sample_weight=weight)
    assert torch.equal(compiled(batch.x, local, basket=basket, sample_weight=weight), want)


def test_margin_may_change_at_any_time() -> None:
    head, batch = planted()
    for margin in (bs.CosFace(0.1), bs.AdaFace(), lambda c: c - 0.1, bs.AdaFace(0.3), bs.ArcFace(0.3)):
        head.margin = margin
        assert head.margin is margin
        want, _, _ = exact(head.eval(), batch)
        assert head(*batch).item() == pytest.approx(want.item(), rel=1e-5)
    assert list(head.state_dict()) == ["weight"]
    with pytest.raises(TypeError, match="margin must be callable"):
        head.margin = 0.5


def test_learnable_margin_is_trained() -> None:
    class Learnable(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = torch.nn.Parameter(torch.full((97,), 0.1))

        def forward(self, cos_t, ctx):
            return cos_t - self.m[ctx.labels.clamp_min(0)]

    head, batch = planted(margin=Learnable())
    assert {name for name, _ in head.named_parameters()} == {"weight", "margin.m"}
    head(*batch).backward()
    seen = batch.labels[batch.labels >= 0].unique()
    assert (head.margin.m.grad[seen] > 0).all()


def test_scale_and_rule_may_change() -> None:
    head, batch = planted()
    head.scale, head.mining = 10, bs.All()
    assert head.scale == 10.0
    assert head(*batch).item() == pytest.approx(exact(head, batch)[0].item(), rel=1e-5)
    with pytest.raises(ValueError, match="scale is -1"):
        head.scale = -1
    with pytest.raises(TypeError, match="mining must be"):
        head.mining = None


def test_ema_is_updated_in_training_only() -> None:
    head, batch = planted(bs.Below(bs.Ema(0.5)))
    head.eval()(*batch)
    assert head.ema.isinf().all()
    head.train()(*batch)
    local = head.baskets.to_local(batch.labels)
    cos = torch.nn.functional.cosine_similarity(batch.x, head.weight[batch.labels.clamp_min(0)])
    for b in range(4):
        rows = local.basket == b
        want = cos[rows].mean().item() if rows.any() else math.inf
        assert head.ema[b].item() == pytest.approx(want, abs=1e-6)


def test_full_weight() -> None:
    head, _ = planted()
    weight = head.full_weight()
    assert torch.equal(weight, head.weight)
    assert weight.data_ptr() != head.weight.data_ptr()
    assert not weight.requires_grad
    parameter = head.weight
    head.load_full_weight((2 * weight).double())
    assert head.weight is parameter
    assert torch.equal(head.weight, 2 * weight)
    with pytest.raises(ValueError, match=r"weight has shape \(3, 24\), allowed is \(97, 24\)"):
        head.load_full_weight(torch.zeros(3, 24))


def test_logits() -> None:
    head, batch = planted()
    want = 64.0 * torch.nn.functional.cosine_similarity(batch.x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head.logits(batch.x, slice(None)), want, rtol=1e-4, atol=2e-5)
    assert torch.equal(head.logits(batch.x, slice(3, 9)), head.logits(batch.x, torch.arange(3, 9)))
    with torch.no_grad():
        head.weight[4] = 1e-14
    assert (head.logits(batch.x, slice(4, 5)) == 0).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.logits(batch.x, slice(0, 2)).dtype == torch.float32


def test_repr_names_the_settings() -> None:
    head, _ = planted(margin=bs.CosFace(0.2))
    for part in (
        "'a': 31",
        "embedding_size=24",
        "margin=CosFace(margin=0.2",
        "TopK(k=5",
        "scale=64.0",
        "'mean'",
    ):
        assert part in repr(head)
    head.margin = bs.AdaFace()
    assert "(margin): AdaFace(margin=0.4" in repr(head)
