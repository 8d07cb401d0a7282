"""Heads with sub-centres: their loss, what stands in weight, and everything a head does beside its step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import reference
from cpu.agree import settle, settle_centres
from cpu.problem import make
from support.tolerances import assert_gradient, assert_losses

SIZES = {"a": 31, "b": 17, "c": 1, "d": 48}
RULES = [bs.TopK(5, 1), bs.All(), bs.Own(), bs.Below(bs.Relative(0.1)), bs.TopK(3, 0, bs.Ema(0.5))]


def planted(
    mining: object, subcenters: int = 3, **options: object
) -> tuple[bs.BasketSoftmaxLoss, Tensor, Tensor]:
    rule = bs.TopK(5, 1) if isinstance(mining, bs.TopK) and mining.guard else mining
    problem = make(
        rows=37,
        depth=24,
        sizes=tuple(SIZES.values()),
        spread=0.3,
        noise=1.0,
        subcenters=subcenters,
        mining=rule,
    )
    problem = settle_centres(settle(problem))
    head = bs.BasketSoftmaxLoss(SIZES, 24, mining=mining, scale=32.0, subcenters=subcenters, **options)
    head.load_full_weight(problem.w)
    return head, problem.x.requires_grad_(), problem.labels


def dense(head: bs.BasketSoftmaxLoss, x: Tensor, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, w = x.detach().to(dtype).requires_grad_(), head.weight.detach().to(dtype).requires_grad_()
    ema = head._buffers.get("ema")
    loss = reference.basket_softmax(
        x, w, labels, head.baskets.offsets, margin=head.margin, scale=head.scale, mining=head.mining,
        ema=None if ema is None else ema.to(dtype), subcenters=head.subcenters,
    )  # fmt: skip
    return loss.detach(), *torch.autograd.grad(loss, (x, w))


@pytest.mark.parametrize("margin", [bs.ArcFace(0.3), lambda c: c - 0.2], ids=["fused", "callable"])
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_loss_and_gradients(mining, margin) -> None:
    head, x, labels = planted(mining, margin=margin)
    value = head(x, labels)
    value.backward()
    exact, eager = (dense(head, x, labels, dtype) for dtype in (torch.float64, torch.float32))
    assert_losses(value.detach()[None], exact[0][None], head.scale)
    for name, got, at in (("dx", x.grad, 1), ("dw", head.weight.grad, 2)):
        assert_gradient(name, got, exact[at], eager[at], "fp32")


def test_weight_counts_centres_and_labels_count_classes() -> None:
    head = bs.ArcFaceLoss(11, 8, subcenters=3)
    assert head.num_classes == 11
    assert head.weight.shape == head.state_dict()["weight"].shape == head.full_weight().shape == (33, 8)
    assert "subcenters=3" in repr(head)
    x = torch.randn(5, 8)
    logits = head.logits(x, torch.tensor([10, 0]))
    unit = torch.nn.functional.normalize
    cos = unit(x, dim=1) @ unit(head.weight.detach(), dim=1).t()
    torch.testing.assert_close(logits, 64.0 * cos.view(5, 11, 3).amax(2)[:, [10, 0]])
    with pytest.raises(RuntimeError, match=r"labels\[0\]: expected 0 to 10 .*, got 11"):
        head(x[:1], torch.tensor([11]))
    with pytest.raises(ValueError, match=r"expected shape \(33, 8\)"):
        head.load_full_weight(torch.zeros(11, 8))


def test_sampled_head_moves_whole_classes() -> None:
    """Partial FC draws classes; of a class that is not drawn no sub-centre moves."""
    head, x, labels = planted(bs.TopK(5, 1), sample_rate=0.5, sparse_grad=True)
    torch.manual_seed(1)
    head(x, labels).backward()
    rows = head.weight.grad.coalesce().indices()[0]
    assert len(rows) == 3 * 48
    classes = rows.view(-1, 3)
    assert torch.equal(classes, classes[:, :1] // 3 * 3 + torch.arange(3))
    assert torch.isin(labels[labels >= 0], classes[:, 0] // 3).all()


@pytest.mark.parametrize("mining", RULES[:3], ids=str)
@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_fused_sgd_is_torch_sgd(mining, rate: float) -> None:
    settings = {"lr": 0.3} if rate < 1 else {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-3}
    (plain, x, labels), (fused, _, _) = (
        planted(mining, sample_rate=rate, sparse_grad=True) for _ in range(2)
    )
    theirs, ours = torch.optim.SGD([plain.weight], **settings), bs.optim.FusedSGD(fused, **settings)
    for _ in range(3):
        for head, optimizer in ((plain, theirs), (fused, ours)):
            optimizer.zero_grad()
            torch.manual_seed(2)
            head(x, labels).backward()
            optimizer.step()
        assert torch.equal(plain.weight, fused.weight)
        assert torch.equal(plain._last.mined_idx, fused._last.mined_idx)


@pytest.mark.parametrize(
    "make_optimizer", [torch.optim.Adam, torch.optim.Adafactor], ids=["adam", "adafactor"]
)
def test_add_basket(make_optimizer) -> None:
    """Old centres, momentum and aliases stay where they are; the new basket has its own sub-centres."""
    head, x, labels = planted(bs.TopK(5, 1), aliases=torch.arange(97) % 40)
    optimizer = make_optimizer([head.weight])
    head(x, labels).backward()
    optimizer.step()
    before = head.weight.detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[head.weight].items() if v.dim() and len(v) == 291}
    fresh = torch.randn(12, 24)
    head.add_basket("new", 4, init=fresh, optimizer=optimizer)
    assert torch.equal(head.weight, torch.cat([before, fresh]))
    assert head.num_classes == len(head.aliases) == 101
    assert state
    for key, old in state.items():
        new = optimizer.state[head.weight][key]
        assert torch.equal(new[:291], old)
        assert len(new) == 303
    head(x.detach(), torch.full_like(labels, 100)).backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"init: expected shape \(12, 24\), got \(4, 24\)"):
        head.add_basket("newer", 4, init=fresh[:4])
    with pytest.raises(ValueError, match=r"loss: expected subcenters = 1, .*, got 3"):
        bs.ClassMeans(head, size=4)


def test_functional_form() -> None:
    head, x, labels = planted(bs.TopK(5, 1))
    value = bs.functional.basket_softmax(
        x,
        head.weight,
        labels,
        head.baskets.offsets,
        margin=head.margin,
        scale=32.0,
        mining=head.mining,
        subcenters=3,
    )
    assert torch.equal(value, head(x, labels))


def test_compiled_is_eager() -> None:
    head, x, labels = planted(bs.TopK(5, 1))
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, labels), head(x, labels))


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (0, ValueError, "subcenters: expected 1 to 16, got 0"),
        (17, ValueError, "subcenters: expected 1 to 16, got 17"),
        (1.5, TypeError, "subcenters: expected an int, got 1.5"),
        (True, TypeError, "subcenters: expected an int, got True"),
    ],
)
def test_refused(value, error, says: str) -> None:
    with pytest.raises(error, match=says):
        bs.ArcFaceLoss(5, 4, subcenters=value)
