"""Random heads and batches over several steps, in fp64 against the reference: values, gradients, running means.

Every setting is drawn together with every other; the pairs that nobody thought of are the point.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

import basket_softmax as bs
from bbs_kernels import reference
from cpu.problem import make

CLOSE = 1e-10  # of the largest entry: a thousand times the rounding of fp64, a thousandth of that of fp32

numbers = st.floats(-0.4, 0.9, allow_nan=False)
guards = st.one_of(numbers.map(bs.Absolute), numbers.map(bs.Relative), st.floats(0.1, 1.5).map(bs.Ema))
rules = st.one_of(
    st.just(bs.All()),
    st.just(bs.Own()),
    guards.map(bs.Below),
    st.builds(bs.TopK, k=st.integers(0, 9), skip=st.integers(0, 3), guard=st.none() | guards),
)
forms = {
    "boundary": st.sampled_from(["hard", "easy", "none"]),
    "target_grad": st.sampled_from(["exact", "straight_through"]),
}
margins = st.one_of(
    st.builds(bs.ArcFace, st.floats(0.0, 1.0), **forms),
    st.builds(bs.CosFace, st.floats(-0.2, 0.6), **forms),
    st.builds(bs.SphereFace, st.floats(0.5, 4.0), **forms),
    st.builds(bs.CombinedMargin, st.floats(0.9, 1.2), st.floats(0.0, 0.5), st.floats(0.0, 0.3), **forms),
    st.builds(bs.AdaFace),
    st.builds(
        bs.MagFace,
        st.floats(0.0, 0.5),
        st.floats(0.5, 1.0),
        st.just(1.0),
        st.just(9.0),
        st.just(2.0),
        forms["boundary"],
    ),
    st.builds(
        lambda m, momentum: bs.CurricularFace(m, momentum).double(), st.floats(0.0, 1.0), st.floats(0.1, 0.9)
    ),
    st.builds(bs.ASoftmax, st.floats(0.5, 4.0), st.floats(0.0, 5.0)),
    st.builds(bs.InterclassFilter, st.floats(0.1, 0.9), st.builds(bs.ArcFace, st.floats(0.0, 1.0))),
    st.just(torch.sin),
    st.just(lambda cos_t, ctx: cos_t - 0.01 * ctx.norms),
)
sizes = st.lists(st.integers(0, 13), min_size=1, max_size=4).filter(any)


def assert_close(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
    bound = CLOSE * max(1.0, float(want.detach().abs().max())) if want.numel() else CLOSE
    assert torch.allclose(got, want, rtol=0.0, atol=bound), (
        f"{name}: {(got - want).abs().max():.3g} > {bound:.3g}"
    )


@given(st.data())
def test_three_steps(data: st.DataObject) -> None:
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    widths = data.draw(sizes)
    ignore = data.draw(st.sampled_from([-1, -100, 255, sum(widths)]))
    mining, margin = data.draw(rules), data.draw(margins)
    seed, rows = data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([1, 2, 17, 31]))
    weighted = data.draw(st.booleans())
    local = data.draw(st.booleans())
    options: dict[str, Any] = {"scale": data.draw(st.sampled_from([1.0, 16.0, 64.1])), "reduction": reduction}

    problem = make(
        rows,
        7,
        tuple(widths),
        torch.float64,
        seed=seed,
        spread=0.0,
        mates=data.draw(st.booleans()),
        noise=1.0,
    )
    head = bs.BasketSoftmaxLoss(
        widths,
        7,
        margin,
        mining=mining,
        ignore_index=ignore,
        aliases=problem.aliases,
        dtype=torch.float64,
        **options,
    )
    head.load_full_weight(problem.w)
    theirs = copy.deepcopy(margin)  # AdaFace has running statistics
    means = torch.full((len(widths),), math.inf, dtype=torch.float64)
    optimizer = torch.optim.SGD(head.parameters(), 0.02, momentum=0.9)
    g = torch.Generator().manual_seed(seed)

    for step in range(3):
        head.train(step != 2)
        batch = make(rows, 7, tuple(widths), torch.float64, seed=seed + step, spread=0.0, noise=1.0)
        x = (batch.x * torch.rand(rows, 1, generator=g).double().mul(9)).requires_grad_()
        labels = torch.where(batch.labels == -1, ignore, batch.labels)
        weights = torch.randint(0, 3, (rows,), generator=g) if weighted else None  # 0 among them

        exact_x, exact_w = (v.detach().clone().requires_grad_() for v in (x, head.weight))
        want = reference.basket_softmax(
            exact_x, exact_w, labels, head.baskets.offsets, margin=theirs, mining=mining, aliases=problem.aliases,
            ignore_index=ignore, sample_weight=weights, ema=means, training=head.training, **options,
        )  # fmt: skip
        upstream = torch.randn(want.shape, generator=g, dtype=torch.float64)
        dx, dw = torch.autograd.grad(want, (exact_x, exact_w), upstream)

        basket = None
        if local:
            labels, basket = head.baskets.to_local(labels, ignore_index=ignore)
            basket = basket.clamp_min(0)
        optimizer.zero_grad()
        got = head(x, labels, basket=basket, sample_weight=weights)
        got.backward(upstream)

        assert_close("loss", got, want)
        assert_close("dx", x.grad, dx)
        assert_close("dw", head.weight.grad, dw)
        if "ema" in head.state_dict():
            assert torch.equal(head.ema.isinf(), means.isinf())
            assert_close("ema", head.ema.nan_to_num(posinf=0.0), means.nan_to_num(posinf=0.0))
            assert_close(
                "stats ema", head.stats()["ema"].nan_to_num(posinf=0.0), means.nan_to_num(posinf=0.0)
            )
        optimizer.step()
