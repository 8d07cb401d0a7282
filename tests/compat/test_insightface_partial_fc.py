"""compat.insightface.PartialFC_V2 against the published computation, written out here with B x C logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from basket_softmax.compat import insightface
from basket_softmax.compat.insightface import partial_fc
from basket_softmax.compat.insightface.ranks import ClassRanges
from basket_softmax.losses.sampling import sample_classes

MARGINS = [
    (insightface.ArcFace(), (64.0, 1.0, 0.5, 0.0)),
    (insightface.CosFace(), (64.0, 1.0, 0.0, 0.4)),
    (insightface.CombinedMarginLoss(32.0, 1.0, 0.3, 0.0), (32.0, 1.0, 0.3, 0.0)),
    (insightface.CombinedMarginLoss(64.0, 1.35, 0.1, 0.0), (64.0, 1.35, 0.1, 0.0)),
]


def published(
    x: Tensor, w: Tensor, labels: Tensor, s: float, m1: float, m2: float, m3: float, fp16: bool = False
) -> Tensor:
    """normalise, product, margin on the target outside autograd, cross entropy; labels >= 0."""
    x_hat, w_hat = F.normalize(x), F.normalize(w)
    cos = (x_hat.half() @ w_hat.half().t()).float() if fp16 else x_hat @ w_hat.t()
    hot = F.one_hot(labels, len(w)).bool()
    with torch.no_grad():
        psi = torch.cos(m1 * cos.clamp(-1.0, 1.0).arccos() + m2) - m3
        shift = torch.where(hot, psi - cos, 0.0)
    return F.cross_entropy(s * (cos + shift), labels)


def head(margin: insightface.ArcFace, w: Tensor, **kwargs: object) -> insightface.PartialFC_V2:
    made = insightface.PartialFC_V2(margin, w.shape[1], w.shape[0], **kwargs).to(w.dtype)
    made.weight.data.copy_(w)
    return made


def gradients(value: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (value.detach(), *torch.autograd.grad(value, (x, w)))


@pytest.mark.parametrize(("margin", "parameters"), MARGINS, ids=lambda v: repr(v).replace("\n", ""))
def test_loss_and_straight_through_gradients(problem, margin, parameters):
    x, w, labels = problem()
    x.requires_grad_()
    module = head(margin, w)
    want = gradients(published(x, w.requires_grad_(), labels, *parameters), x, w)
    got = gradients(module(x, labels), x, module.weight)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class Capped(torch.autograd.Function):
    """The published cross entropy: probabilities are at least 1e-30 in the loss, and not in its gradient."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        p = logits.softmax(1)
        ctx.save_for_backward(p, labels)
        return -p.gather(1, labels[:, None]).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        p, labels = ctx.saved_tensors
        return grad * (p - F.one_hot(labels, p.shape[1])) / len(p), None


def test_losses_above_69_08_are_not_capped(problem):
    """A row opposes its centre and lies on another: 64 (1 - cos(pi + 0.5)) = 120.17 here, 69.08 there, one gradient."""
    x, w, labels = problem()
    w[7] = -w[labels[3]]
    x[3] = 2 * w[7]
    x.requires_grad_()
    module = head(insightface.ArcFace(), w)
    got = gradients(module(x, labels), x, module.weight)
    cos = F.normalize(x) @ F.normalize(w.requires_grad_()).t()
    psi = torch.cos(cos.detach().clamp(-1.0, 1.0).arccos() + 0.5)
    logits = 64.0 * torch.where(F.one_hot(labels, len(w)).bool(), psi + (cos - cos.detach()), cos)
    want = gradients(Capped.apply(logits, labels), x, w)
    for mine, theirs in zip(got[1:], want[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    rows = F.cross_entropy(logits.detach(), labels, reduction="none")
    assert rows[3].item() == pytest.approx(120.1658, abs=1e-3)
    cap = 30 * math.log(10)
    assert round(cap, 2) == 69.08
    assert got[0].item() == pytest.approx(rows.mean().item(), rel=1e-8)  # arccos at -1
    assert want[0].item() == pytest.approx(rows.clamp_max(cap).mean().item(), rel=1e-8)
    assert got[0] > want[0] + 1


def test_straight_through_is_not_the_exact_gradient(problem, relative_l2):
    """A guard on the test above: with the exact slope the gradients of ArcFace are far away."""
    x, w, labels = problem()
    x.requires_grad_()
    module = head(insightface.ArcFace(), w)
    _, dx, _ = gradients(module(x, labels), x, module.weight)
    cos = F.normalize(x) @ F.normalize(w).t()
    hot = F.one_hot(labels, len(w)).bool()
    exact = F.cross_entropy(64.0 * torch.where(hot, torch.cos(cos.arccos() + 0.5), cos), labels)
    assert relative_l2(torch.autograd.grad(exact, x)[0], dx) > 0.05


def test_fp32_is_at_least_as_good_as_the_dense_form(problem, relative_l2):
    x, w, labels = problem(dtype=torch.float32)
    parameters = MARGINS[0][1]
    leaves = [v.clone().requires_grad_() for v in (x, w)]
    peer = gradients(published(*leaves, labels, *parameters), *leaves)
    wide = [v.double().requires_grad_() for v in (x, w)]
    truth = gradients(published(*wide, labels, *parameters), *wide)
    x.requires_grad_()
    module = head(insightface.ArcFace(), w)
    for got, other, want in zip(gradients(module(x, labels), x, module.weight), peer, truth, strict=True):
        assert relative_l2(got, want) <= max(2e-6, 2.0 * relative_l2(other, want))


def test_fp16_flag_rounds_the_operands_and_nothing_else(problem, relative_l2):
    x, w, labels = problem(dtype=torch.float32)
    parameters = MARGINS[0][1]
    wide = [v.double().requires_grad_() for v in (x, w)]
    truth = gradients(published(*wide, labels, *parameters), *wide)
    leaves = [v.clone().requires_grad_() for v in (x, w)]
    peer = gradients(published(*leaves, labels, *parameters, fp16=True), *leaves)

    x.requires_grad_()
    module = head(insightface.ArcFace(), w, fp16=True)
    value = module(x, labels)
    got = gradients(value, x, module.weight)
    assert [t.dtype for t in got] == [torch.float32] * 3
    assert module.weight.dtype == torch.float32
    for mine, other, want in zip(got, peer, truth, strict=True):
        assert relative_l2(mine, want) <= max(2e-3, 2.0 * relative_l2(other, want))
    assert value != head(insightface.ArcFace(), w)(x, labels)  # it did round


def test_fp16_flag_survives_large_and_small_embeddings(problem, relative_l2):
    """Norms that fp16 cannot hold: normalisation comes first, in fp32."""
    x, w, labels = problem(dtype=torch.float32)
    module = head(insightface.CosFace(), w, fp16=True)
    plain = module(F.normalize(x), labels)
    for factor in (1e6, 1e-7):
        leaf = (factor * F.normalize(x)).requires_grad_()
        value = module(leaf, labels)
        value.backward()
        torch.testing.assert_close(value, plain, rtol=1e-3, atol=1e-3)
        assert leaf.grad.isfinite().all()
        assert leaf.grad.norm() > 0


@pytest.mark.parametrize("fp16", [False, True])
def test_the_flag_decides_not_autocast(problem, fp16):
    x, w, labels = problem(dtype=torch.float32)
    module = head(insightface.ArcFace(), w, fp16=fp16)
    plain = module(x, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = module(x, labels)
    assert torch.equal(plain, under)


def test_half_embeddings_are_computed_in_fp32(problem):
    x, w, labels = problem(dtype=torch.float32)
    module = head(insightface.ArcFace(), w)
    assert torch.equal(module(x.half(), labels), module(x.half().float(), labels))


def test_label_shapes_and_dtypes(problem):
    x, w, labels = problem()
    module = head(insightface.ArcFace(), w)
    column = labels[:, None].clone()
    want = module(x, labels)
    assert want.shape == ()
    assert torch.equal(module(x, column), want)
    assert column.shape == (31, 1)  # not squeezed in place
    assert torch.equal(module(x, labels.int()), want)
    assert module(x[:1], column[:1]).shape == ()  # one row, and another batch size


def test_ignored_rows_take_no_part(problem):
    x, w, labels = problem()
    module = head(insightface.ArcFace(), w)
    used = torch.ones(len(labels), dtype=torch.bool)
    used[::3] = False
    leaf = x.clone().requires_grad_()
    got = gradients(module(leaf, torch.where(used, labels, -1)), leaf, module.weight)
    rest = x[used].requires_grad_()
    want = gradients(module(rest, labels[used]), rest, module.weight)
    torch.testing.assert_close(got[0], want[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(got[1][used], want[1], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(got[2], want[2], rtol=1e-12, atol=1e-15)
    assert (got[1][~used] == 0).all()


@pytest.mark.parametrize("fp16", [False, True])
def test_nan_in_an_ignored_row_goes_nowhere(problem, fp16):
    x, w, labels = problem(dtype=torch.float32)
    module = head(insightface.ArcFace(), w, fp16=fp16)
    labels[4], x[4] = -1, float("nan")
    value = module(x.requires_grad_(), labels)
    value.backward()
    assert value.isfinite()
    assert (x.grad[4] == 0).all()
    assert x.grad.isfinite().all()
    assert module.weight.grad.isfinite().all()


def test_all_rows_ignored_is_zero_and_attached(problem):
    x, w, labels = problem()
    module = head(insightface.CosFace(), w)
    value = module(x.requires_grad_(), torch.full_like(labels, -1))
    value.backward()
    assert value == 0
    assert (x.grad == 0).all()
    assert (module.weight.grad == 0).all()


def test_rank_state_dict_and_initialisation():
    torch.manual_seed(4)
    module = insightface.PartialFC_V2(insightface.ArcFace(), 16, 100)
    torch.manual_seed(4)
    assert torch.equal(module.weight, torch.normal(0, 0.01, (100, 16)))  # what insightface draws
    assert list(module.state_dict()) == ["weight"]
    assert (module.num_local, module.class_start, module.rank, module.world_size) == (100, 0, 0, 1)
    saved = {"weight": torch.randn(100, 16)}  # a rank's checkpoint of a run with one rank
    module.load_state_dict(saved, strict=True)
    assert torch.equal(module.weight, saved["weight"])


def test_a_margin_schedule_is_read_at_each_step(problem):
    x, w, labels = problem()
    margin = insightface.ArcFace()
    module = head(margin, w)
    before = module(x, labels)
    margin.margin, margin.s = 0.1, 30.0
    assert module(x, labels) < before
    assert torch.equal(module(x, labels), head(insightface.ArcFace(30.0, 0.1), w)(x, labels))


def test_with_a_process_group_of_one(problem, tmp_path):
    x, w, labels = problem()
    want = head(insightface.ArcFace(), w)(x, labels)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert torch.equal(head(insightface.ArcFace(), w)(x, labels), want)
    finally:
        torch.distributed.destroy_process_group()


def test_a_group_that_came_after_the_head_is_named(problem, monkeypatch):
    x, w, labels = problem()
    module = head(insightface.ArcFace(), w)
    monkeypatch.setattr(partial_fc, "default_group", lambda: "a group of two ranks")
    with pytest.raises(RuntimeError, match=r"made before torch\.distributed\.init_process_group"):
        module(x, labels)


@pytest.mark.parametrize("classes", [1, 5, 97, 10572])
@pytest.mark.parametrize("world", [1, 2, 3, 8, 64])
def test_ranges_are_insightfaces(classes, world):
    """num_local = C // n + (r < C % n), class_start = C // n * r + min(r, C % n), as published."""
    sharding, owner = ClassRanges(classes, world), []
    for rank in range(world):
        ((start, stop),) = sharding.ranges(rank)
        assert start == classes // world * rank + min(rank, classes % world) == len(owner)
        assert stop - start == classes // world + int(rank < classes % world) == sharding.num_local(rank)
        owner += [(rank, index - start) for index in range(start, stop)]
    assert [sharding.to_local(index) for index in range(classes)] == owner
    assert [sharding.to_global(*place) for place in owner] == list(range(classes))
    with pytest.raises(ValueError, match=f"index: expected 0 to .*, got {classes}"):
        sharding.to_local(classes)
    with pytest.raises(ValueError, match=f"rank: expected 0 to .*, got {world}"):
        sharding.ranges(world)


def test_wrong_arguments_are_named(problem):
    for rate in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=rf"sample_rate: expected a number in \(0, 1\], got {rate}"):
            insightface.PartialFC_V2(insightface.ArcFace(), 8, 10, sample_rate=rate)
    with pytest.raises(TypeError, match=r"margin_loss: expected CombinedMarginLoss, ArcFace or CosFace"):
        insightface.PartialFC_V2(lambda logits, labels: logits, 8, 10)
    with pytest.raises(ValueError, match="num_classes: expected a positive int, got 0"):
        insightface.PartialFC_V2(insightface.ArcFace(), 8, 0)
    x, w, labels = problem()
    module = head(insightface.ArcFace(), w)
    with pytest.raises(ValueError, match=r"embeddings: expected \[B, 23\], got \[31, 5\]"):
        module(x[:, :5], labels)
    with pytest.raises(ValueError, match=r"labels: expected \[31\] or \[31, 1\], got \[30\]"):
        module(x, labels[:30])
    with pytest.raises((ValueError, IndexError, RuntimeError), match="97"):
        module(x, labels.clone().fill_(97))


def test_compiles_without_a_graph_break(problem):
    x, w, labels = problem(dtype=torch.float32)
    module = head(insightface.ArcFace(), w)
    leaf = x.clone().requires_grad_()
    want = gradients(module(leaf, labels), leaf, module.weight)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for a, b in zip(gradients(compiled(leaf, labels), leaf, module.weight), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_sampling_is_the_loss_over_the_sampled_classes(problem):
    x, w, labels = problem()
    module = head(insightface.ArcFace(), w, sample_rate=0.5)
    torch.manual_seed(3)
    x.requires_grad_()
    got = gradients(module(x, labels), x, module.weight)
    torch.manual_seed(3)
    chosen = sample_classes(labels, len(w), 0.5, -1)
    valid = labels >= 0
    assert set(labels[valid].tolist()) <= set(chosen.tolist())
    assert len(chosen) < len(w)
    smaller = head(insightface.ArcFace(), w[chosen])
    local = torch.where(valid, torch.searchsorted(chosen, labels.clamp_min(0)), -1)
    loss, dx, part = gradients(smaller(x, local), x, smaller.weight)
    want_dw = torch.zeros_like(w).index_copy(0, chosen, part)
    for a, b in zip(got, (loss, dx, want_dw), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
