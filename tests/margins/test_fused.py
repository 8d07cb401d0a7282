"""`margin_softmax`, the loss made in the kernels, beside `row_losses(cos_lse, margin)` in torch: values and gradients.

Two classes on a circle place the target cosine and the log-sum-exp of the negatives at will. What the op returns is
compared with the formula in fp64 on its own lse and cos_t, so that only the rounding of a row's loss is judged.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import functional as core
from bbs_kernels.margins import BOUNDARIES, TARGET_GRADS, CombinedMargin, family_arguments
from support.row_losses import FAMILIES, assert_rows, exact_rows
from support.tolerances import relative_l2

OPS = torch.ops.bbs_kernels
DTYPES = [torch.float32, torch.float64]


def circle(cosines: Tensor) -> Tensor:
    """Unit vectors [n, 2] with those cosines to (1, 0); of +-1 and a little beyond, exactly +-(1, 0)."""
    return torch.stack([cosines, (1 - cosines.clamp(-1, 1).square()).sqrt()], dim=1)


def rows_at(cos_t: Tensor, negative: Tensor, margin: CombinedMargin, scale: float) -> tuple[Tensor, ...]:
    """The op's outputs for rows with these target cosines and one negative each, every row in a basket of its own."""
    n = len(cos_t)
    x = torch.tensor([1.0, 0.0], dtype=cos_t.dtype).expand(n, 2)
    w = torch.stack([circle(cos_t), circle(negative)], dim=1).reshape(2 * n, 2)
    offsets = torch.arange(0, 2 * n + 1, 2)
    rule = bs.Own().op_arguments()
    return OPS.margin_softmax(
        x, w, offsets[:-1], offsets, None, None, scale, *rule, -1, *family_arguments(margin)
    )  # fmt: skip


cosines = st.one_of(
    st.sampled_from([-1.0, 1.0, 0.0, -0.0, 1.0 - 6e-8, -1.0 + 6e-8, -math.cos(0.5)]),
    st.floats(-1.0, 1.0, width=32),
)


@given(
    st.lists(st.tuples(cosines, cosines), min_size=1, max_size=8), st.sampled_from(FAMILIES),
    st.sampled_from(BOUNDARIES), st.sampled_from(TARGET_GRADS), st.sampled_from([1.0, 16.0, 64.0, 64.1]),
    st.sampled_from(DTYPES),
)  # fmt: skip
def test_rows_are_the_formula(pairs, family, boundary, target_grad, scale, dtype) -> None:
    margin = CombinedMargin(*family, boundary, target_grad)
    cos_t, negative = torch.tensor(pairs, dtype=dtype).unbind(1)
    assert_rows(*rows_at(cos_t, negative, margin, scale)[:5], margin, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("loss", [40.0, 10.0, 1.0, 1e-2, 1e-4, 1e-6])
def test_losses_from_40_to_1e_6(loss: float, boundary: str, dtype) -> None:
    """Relative digits: a row that is classified well keeps its gradient."""
    scale, cos_t = 64.0, torch.linspace(0.2, 1.0, 41, dtype=dtype)
    z = math.log(math.expm1(loss))
    for family in FAMILIES:
        margin = CombinedMargin(*family, boundary)
        negative = z / scale + margin(cos_t)
        rows = negative.abs() < 1
        assert rows.any()
        out = rows_at(cos_t[rows], negative[rows], margin, scale)
        assert (out[0] / loss - 1).abs().max() < (1e-4 if dtype == torch.float32 else 1e-11)
        assert (out[1] > 0).all()
        assert_rows(*out[:5], margin, scale)


@pytest.mark.parametrize("margin", [bs.ArcFace(0.5), bs.CosFace(0.2), bs.SphereFace(1.4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_perfect_row_has_a_gradient_of_zero_and_no_nan(margin, dtype) -> None:
    arguments = CombinedMargin(*margin.coefficients())
    out = rows_at(torch.ones(1, dtype=dtype), -torch.ones(1, dtype=dtype), arguments, 1000.0)
    assert [float(v) for v in out[:3]] == [0.0, 0.0, 0.0]


def gradients(
    form: str, batch: Tensor, centres: Tensor, margin: CombinedMargin, upstream: Tensor, **given
) -> tuple:
    """dx and dw, then what was mined: by the fused op, by torch on the rows, or by torch in fp64 on the rows."""
    x, w = batch.clone().requires_grad_(), centres.clone().requires_grad_()
    if form == "fused":
        losses, cos_t, *mined = core.margin_softmax(x, w, margin=margin, **given)
        losses.backward(upstream)
    else:
        lse, cos_t, *mined = core.cos_lse(x, w, **given)
        if form == "unfused":
            core.row_losses(lse, margin(cos_t), given["scale"]).backward(upstream)
        else:
            _, *grads = exact_rows(lse.detach(), cos_t.detach(), margin, given["scale"])
            torch.autograd.backward([lse, cos_t], [(g * upstream).to(lse.dtype) for g in grads])
    return x.grad, w.grad, cos_t.detach(), *mined


@pytest.mark.parametrize("mining", [bs.Own(), bs.TopK(3, 1), bs.Below(bs.Absolute(0.3))], ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("target_grad", TARGET_GRADS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_those_of_the_unfused_form(mining, boundary, target_grad, dtype) -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 60, (41,), generator=g)
    centres = torch.randn(60, 12, generator=g, dtype=dtype)
    batch = centres[labels] * torch.rand(41, 1, generator=g, dtype=dtype) * 3
    batch = batch + torch.randn(41, 12, generator=g, dtype=dtype)
    if dtype == torch.float64:  # cosines of 1 and -1: a slope of 1e3 times a direction that is rounding alone
        batch[0], batch[1] = centres[labels[0]], -centres[labels[1]]
    given = {"labels": labels, "offsets": torch.tensor([0, 25, 25, 60]), "scale": 30.1, "mining": mining}
    upstream = torch.randn(41, generator=g, dtype=dtype)
    squares = []  # of the relative errors of dx and dw, fused and unfused
    for family in FAMILIES:
        margin = CombinedMargin(*family, boundary, target_grad)
        fused, unfused, exact = (
            gradients(form, batch, centres, margin, upstream, **given)
            for form in ("fused", "unfused", "exact")
        )
        squares.append([[relative_l2(got[n], exact[n]) ** 2 for n in range(2)] for got in (fused, unfused)])
        for got, want in zip(fused[2:], unfused[2:], strict=True):
            assert torch.equal(got, want)
    # Over all families, so that the luck of one row does not decide.
    ours, theirs = torch.tensor(squares).mean(0).sqrt()
    assert (ours <= torch.maximum(2 * theirs, torch.tensor(2e-6 if dtype == torch.float32 else 1e-12))).all()


@pytest.mark.parametrize("margin", [bs.ArcFace(0.5), bs.SphereFace(1.4)], ids=str)
def test_rows_without_negatives_ignored_rows_and_nan(margin) -> None:
    x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], requires_grad=True)
    w = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, -1, 1, 2])  # class 0 is alone in its basket
    with torch.no_grad():
        x[3, 1] = math.nan
    losses, *_ = core.margin_softmax(
        x, w, labels, torch.tensor([0, 1, 3]), margin=margin, scale=64.0, mining=bs.Own()
    )
    assert losses[0] == losses[1] == 0
    assert losses[2] > 0
    assert losses[3].isnan()
    losses.backward(torch.tensor([1.0, 5.0, 0.0, 1.0]))
    assert (x.grad[:3] == 0).all()
    assert x.grad[3].isnan().all()


def test_gradients_of_any_size_pass() -> None:
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(9, 8, generator=g), torch.randn(20, 8, generator=g)
    labels, grads = torch.arange(9), []
    for size in (1.0, 2.0**16):
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        losses, *_ = core.margin_softmax(
            x, w, labels, torch.tensor([0, 20]), margin=bs.ArcFace(0.5), scale=64.0, mining=bs.Own()
        )
        losses.backward(torch.full((9,), size))
        grads.append((x.grad / size, w.grad / size))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_which_margins_have_the_formula() -> None:
    class Own(bs.ArcFace):
        def __call__(self, cos_t: Tensor) -> Tensor:
            return cos_t - 1.0

    assert family_arguments(bs.ArcFace(0.4, "none")) == (1.0, 0.4, 0.0, 2, 0)
    assert family_arguments(bs.CosFace(0.3, target_grad="straight_through")) == (1.0, 0.0, 0.3, 0, 1)
    assert family_arguments(bs.SphereFace(2)) == (2.0, 0.0, 0.0, 0, 0)
    for other in (Own(0.4), bs.AdaFace(), torch.sin, lambda c: c):
        assert family_arguments(other) is None
        with pytest.raises(TypeError, match="expected ArcFace, CosFace, CombinedMargin or SphereFace"):
            core.margin_softmax(None, None, None, None, margin=other)


def test_a_shard_gives_no_loss() -> None:
    """Its log-sum-exp is a part of what the loss is made of."""
    x, w, labels, offsets = torch.ones(2, 3), torch.ones(4, 3), torch.arange(2), torch.tensor([0, 4])
    for argument in ({"row_basket": labels}, {"row_alias": labels}, {"mined_in_lse": False}):
        with pytest.raises(ValueError, match="belong to cos_lse of a shard"):
            core.margin_softmax(
                x, w, labels, offsets, margin=bs.ArcFace(), scale=64.0, mining=bs.Own(), **argument
            )


def test_a_subclass_with_its_own_formula_is_called() -> None:
    class Shifted(bs.ArcFace):
        def __call__(self, cos_t: Tensor) -> Tensor:
            return cos_t - 0.25

    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(5, 8, generator=g), torch.randn(9, 8, generator=g)
    labels, offsets = torch.arange(5), torch.tensor([0, 9])
    values = [
        bs.functional.basket_softmax(x, w, labels, offsets, margin=margin, scale=8.0, mining=bs.Own())
        for margin in (Shifted(0.4), bs.CosFace(0.25), bs.ArcFace(0.4))
    ]
    torch.testing.assert_close(values[0], values[1])
    assert abs(values[0] - values[2]) > 0.01


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"m1": 0.0}, "m1: expected a finite number above 0, got 0"),
        ({"m2": math.pi}, r"m2: expected radians in \[0, pi\), got 3.14159"),
        ({"m2": math.nan}, "m2: expected radians .*, got nan"),
        ({"m3": math.inf}, "m3: expected a finite number, got inf"),
        ({"boundary": 3}, r"boundary: expected 0 \(hard\), 1 \(easy\) or 2 \(none\), got 3"),
        ({"target_grad": 2}, r"target_grad: expected 0 \(exact\) or 1 \(straight_through\), got 2"),
    ],
)
def test_what_the_op_refuses(changed: dict, message: str) -> None:
    arguments = {"m1": 1.0, "m2": 0.5, "m3": 0.0, "boundary": 0, "target_grad": 0, **changed}
    x, w, labels, offsets = torch.randn(2, 3), torch.randn(4, 3), torch.arange(2), torch.tensor([0, 4])
    with pytest.raises(RuntimeError, match=message):
        OPS.margin_softmax(
            x, w, labels, offsets, None, None, 64.0, *bs.Own().op_arguments(), -1, *arguments.values()
        )
