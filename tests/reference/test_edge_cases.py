"""Edge cases of the definition, in the reference: what is ignored, empty, zero, NaN, rounded or out of range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bbs_kernels import reference
from bbs_kernels.margins import ArcFace
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK

OFFSETS = torch.tensor([0, 3, 3, 8])  # the middle basket is empty
LABELS = torch.tensor([0, 4, -1, 2])
RULES = [All(), Own(), Below(Absolute(0.2)), TopK(2, 1), TopK(2, 1, Relative(0.1)), TopK(0, 0)]
READS_OTHERS = [All(), Below(Absolute(0.2)), TopK(2, 1), TopK(2, 1, Relative(0.1))]
every_rule = pytest.mark.parametrize("mining", RULES, ids=str)


def operands(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, 6, generator=g, dtype=torch.float64).to(dtype) for n in (4, 8))


def run(x: Tensor, w: Tensor, mining, labels: Tensor = LABELS, offsets: Tensor = OFFSETS, **more):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    out = reference.cos_lse(x, w, labels, offsets, scale=16.0, mining=mining, **more)
    valid = labels != -1
    used = valid & (out[0] != -torch.inf)
    (out[0][used].sum() + out[1].sum()).backward()
    return out, x.grad, w.grad


@every_rule
def test_ignored_row(mining) -> None:
    x, w = operands()
    x[2] = torch.nan
    (lse, cos_t, idx, cos), dx, dw = run(x, w, mining)
    assert lse[2] == -torch.inf
    assert cos_t[2] == 0
    assert (idx[2] == -1).all()
    assert (cos[2] == 0).all()
    assert (dx[2] == 0).all()
    kept = torch.tensor([0, 1, 3])
    (alone, *_), dx_alone, dw_alone = run(x[kept], w, mining, LABELS[kept])
    assert torch.equal(lse[kept], alone)
    assert torch.equal(dx[kept], dx_alone)
    torch.testing.assert_close(dw, dw_alone)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_rows_ignored(reduction: str) -> None:
    x, w = (v.requires_grad_() for v in operands())
    loss = reference.basket_softmax(
        x,
        w,
        torch.full((4,), -1),
        OFFSETS,
        margin=ArcFace(),
        scale=16.0,
        mining=TopK(2, 1),
        reduction=reduction,
    )
    assert (loss == 0).all()
    loss.sum().backward()
    assert (x.grad == 0).all()
    assert (w.grad == 0).all()


def test_weights_that_sum_to_zero() -> None:
    x, w = (v.requires_grad_() for v in operands())
    loss = reference.basket_softmax(
        x, w, LABELS, OFFSETS, margin=ArcFace(), scale=16.0, mining=TopK(2, 1), sample_weight=torch.zeros(4)
    )
    loss.backward()
    assert loss == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("mining", [Own(), TopK(2, 5), Below(Absolute(-1.5))], ids=str)
def test_no_negatives(mining) -> None:
    x, w = (v.requires_grad_() for v in operands())
    offsets = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8])
    out = reference.cos_lse(x, w, LABELS, offsets, scale=16.0, mining=mining)
    assert (out[0] == -torch.inf).all()
    loss = reference.basket_softmax(x, w, LABELS, offsets, margin=ArcFace(), scale=16.0, mining=mining)
    loss.backward()
    assert loss == 0
    assert (x.grad == 0).all()
    assert (w.grad == 0).all()


@every_rule
def test_zero_rows_and_centres(mining) -> None:
    x, w = operands()
    x[0], w[4], w[1] = 0.0, 0.0, 1e-13
    (lse, cos_t, _, _), dx, dw = run(x, w, mining)
    assert cos_t[:2].tolist() == [0.0, 0.0]
    assert lse[0].isfinite()
    assert (dx[0] == 0).all()
    assert (dw[[1, 4]] == 0).all()
    assert dx.isfinite().all()
    assert dw.isfinite().all()


@pytest.mark.parametrize(("norm", "zero"), [(9e-13, True), (1.1e-12, False)])
def test_threshold_of_a_zero_row(norm: float, zero: bool) -> None:
    x, w = operands()
    x[0] *= norm / x[0].norm()
    (_, cos_t, _, _), dx, _ = run(x, w, Own())
    assert (cos_t[0] == 0) == zero
    assert (dx[0] == 0).all() == zero


def test_minus_zero_is_stored_as_plus_zero() -> None:
    x, w = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.0, -1.0], [1.0, 1.0]])
    cos_t = reference.cos_lse(x, w, torch.tensor([0]), torch.tensor([0, 2]), scale=1.0, mining=Own())[1]
    assert math.copysign(1.0, cos_t.item()) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_duplicate_classes_tie_wherever_they_lie(dtype: torch.dtype, layout: str) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 37, generator=g).to(dtype)
    w = torch.randn(37, 1, generator=g).to(dtype).expand(37, 203).contiguous().t()
    w = w.contiguous() if layout == "contiguous" else w
    offsets = torch.tensor([0, 100, 203])
    _, _, idx, cos = reference.cos_lse(
        x, w, torch.zeros(5, dtype=torch.int64), offsets, scale=16.0, mining=TopK(64, 1)
    )
    assert (idx[:, 1] == torch.arange(101, 165)).all()
    assert (cos[:, 1] == cos[:, 1, :1]).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@every_rule
def test_bad_embedding(mining, bad: float) -> None:
    x, w = operands()
    (clean, *_), clean_dx, _ = run(x, w, mining)
    x[1, 3] = bad
    (lse, cos_t, idx, _), dx, dw = run(x, w, mining)
    assert lse[1].isnan()
    assert cos_t[1].isnan()
    assert (idx[1] == -1).all()
    assert dx[1].isnan().all()
    others = torch.tensor([0, 2, 3])
    assert torch.equal(lse[others], clean[others])
    assert torch.equal(dx[others], clean_dx[others])
    assert dw[3:].isnan().any()
    if mining not in READS_OTHERS:
        assert not dw[:3].isnan().any()


@every_rule
def test_bad_centre(mining) -> None:
    """Class 6 is in the basket of row 1; rows 0 and 3 read it only under rules that read other baskets."""
    x, w = operands()
    w[6, 0] = torch.nan
    (lse, _, idx, _), dx, dw = run(x, w, mining)
    touched = torch.tensor([mining in READS_OTHERS, True, False, mining in READS_OTHERS])
    assert torch.equal(lse.isnan(), touched)
    assert torch.equal(dx.isnan().all(1), touched)
    assert torch.equal(dx.isnan().any(1), touched)
    assert (idx[touched] == -1).all()
    if mining not in READS_OTHERS:
        assert not dw[:3].isnan().any()


def test_bad_centre_that_no_row_reads() -> None:
    x, w = operands()
    w[6, 0] = torch.nan
    (lse, *_), dx, dw = run(x, w, Own(), torch.tensor([0, 1, -1, 2]))
    assert not lse.isnan().any()
    assert not dx.isnan().any()
    assert (dw[3:] == 0).all()


def test_touched_counts_before_exclusions() -> None:
    """The target, an alias mate and a class above the guard are read before they are left out."""
    aliases = torch.full((8,), -1)
    aliases[[0, 1, 6]] = 2
    for bad in (0, 1, 6):
        x, w = operands()
        w[bad] = torch.nan
        assert run(x, w, TopK(1, 1), aliases=aliases)[0][0][0].isnan()


def test_row_without_negatives_is_nan_too() -> None:
    x, w = operands()
    x[0] = torch.nan
    (lse, *_), dx, _ = run(x, w, Own(), torch.tensor([0, -1, -1, -1]), torch.tensor([0, 1, 8]))
    assert lse[0].isnan()
    assert dx[0].isnan().all()


def test_guard_that_is_nan() -> None:
    x, w = operands()
    ema = torch.tensor([0.3, 0.3, torch.nan], dtype=torch.float64)
    (lse, *_), dx, _ = run(x, w, TopK(2, 0, Ema(0.5)), ema=ema)
    assert lse.isnan().tolist() == [False, True, False, False]
    assert dx.isnan().all(1).tolist() == [False, True, False, False]


def test_squared_norm_that_overflows_fp32() -> None:
    x, w = operands(torch.float32)
    x[0] *= 1e19
    x[0, 0] = 2e19
    limit = torch.finfo(torch.float32).max
    for reading in (run(x, w, Own())[0], run(x.double(), w.double(), Own(), norm_limit=limit)[0]):
        assert reading[0].isnan().tolist() == [True, False, False, False]
    assert not run(x.double(), w.double(), Own())[0][0].isnan().any()


@pytest.mark.parametrize("factor", [1e-11, 1e8, 1e17])
def test_norms_do_not_matter(factor: float) -> None:
    x, w = operands(torch.float32)
    want = run(x, w, TopK(2, 1))[0]
    got = run(x * factor, w * factor, TopK(2, 1))[0]
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_embeddings_round_fp32_centres(dtype: torch.dtype) -> None:
    x, w = operands(torch.float32)
    x = x.to(dtype)
    (lse, cos_t, _, cos), dx, dw = run(x, w, TopK(2, 1))
    assert lse.dtype == cos_t.dtype == cos.dtype == torch.float32
    assert dx.dtype == dtype
    assert dw.dtype == torch.float32
    want, want_dx, want_dw = run(x.float(), w.to(dtype).float(), TopK(2, 1))
    assert torch.equal(lse, want[0])
    assert torch.equal(dx, want_dx.to(dtype))  # one rounding, at the end
    assert torch.equal(dw, want_dw)  # none


def test_k_is_clipped_and_padded() -> None:
    x, w = operands()
    out, _, _ = run(x, w, TopK(7, 1))
    assert out[2].shape == (4, 3, 7)
    assert ((out[2][0] >= 0).sum(1)).tolist() == [0, 0, 4]
    assert (out[2][1, 0] >= 0).sum() == 2
    assert (out[3][out[2] < 0] == 0).all()


def test_label_out_of_range() -> None:
    x, w = operands()
    with pytest.raises(ValueError, match=r"8 is out of range \[0, 8\)"):
        run(x, w, Own(), torch.tensor([0, 8, -1, 2]))
    with pytest.raises(ValueError, match=r"-2 is out of range"):
        run(x, w, Own(), torch.tensor([0, -2, -1, 2]))


def test_ignore_index_may_be_a_class() -> None:
    x, w = operands()
    lse = reference.cos_lse(x, w, LABELS.clamp_min(0), OFFSETS, scale=16.0, mining=Own(), ignore_index=2)[0]
    assert lse.isinf().tolist() == [False, False, False, True]


def test_running_means() -> None:
    """First batch: the mean itself; then 0.98 old + 0.02 new; only in training; unseen baskets stay at inf."""
    x, w = operands()
    c = torch.nn.functional.cosine_similarity(x, w[LABELS.clamp_min(0)])
    first = [(c[0] + c[3]).item() / 2, torch.inf, c[1].item()]
    ema = torch.full((3,), torch.inf, dtype=torch.float64)
    mining = Below(Ema(0.5))
    run(x, w, mining, ema=ema)
    assert ema.isinf().all()
    run(x, w, mining, ema=ema, training=True)
    torch.testing.assert_close(ema.tolist(), first)
    x[0] = torch.nan  # left out: the mean is that of row 3
    run(x, w, mining, ema=ema, training=True)
    want = [0.98 * first[0] + 0.02 * c[3].item(), torch.inf, first[2]]
    torch.testing.assert_close(ema.tolist(), want)
    run(x, w, Below(Absolute(0.1)), ema=ema, training=True)  # no Ema guard: nothing to update
    torch.testing.assert_close(ema.tolist(), want)


def test_ema_guard_needs_its_means() -> None:
    x, w = operands()
    with pytest.raises(ValueError, match="ema"):
        run(x, w, Below(Ema(0.5)))


def test_target_cos() -> None:
    x, w = operands()
    want = torch.nn.functional.cosine_similarity(x, w[LABELS.clamp_min(0)])
    want[2] = 0.0
    torch.testing.assert_close(reference.target_cos(x, w, LABELS), want)


def test_batch_of_none() -> None:
    x, w = operands()
    out, _, dw = run(x[:0], w, TopK(2, 1), LABELS[:0])
    assert [tuple(t.shape) for t in out] == [(0,), (0,), (0, 3, 2), (0, 3, 2)]
    assert (dw == 0).all()
