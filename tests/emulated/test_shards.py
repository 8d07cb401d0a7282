"""Shards of the classes on the emulated GPU, put together as `class_parallel` does, against the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import functional
from bbs_kernels.ops.call import CoreCall, CoreOutputs
from bbs_kernels.ops.prepare import prepare
from cpu.problem import Problem, make, upstream
from support.tolerances import TABLE, relative_l2

pytestmark = pytest.mark.emulated

RULES = {"all": bs.All(), "own": bs.Own(), "below": bs.Below(bs.Relative(0.1)), "top-k": bs.TopK(4, 0)}
SIZES = (31, 17, 1, 0, 48)
CUTS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "by thirds": lambda c: [c % 3 == n for n in range(3)],
    "one is empty": lambda c: [c >= 0, c < 0],
}


def shard_call(p: Problem, kept: Tensor, cos_t: Tensor) -> tuple[CoreCall, Tensor, Tensor]:
    """The call of one shard, its centres, and which classes these are."""
    index = kept.nonzero().flatten()
    labels = p.labels.clamp_min(0)
    here = p.valid & kept[labels]
    guard = getattr(p.mining, "guard", None)
    call = prepare(
        p.x, p.w[index], torch.where(here, torch.searchsorted(index, labels), -3),
        torch.searchsorted(index, p.offsets), scale=p.scale, mining=p.mining, aliases=p.aliases[index],
        row_basket=torch.where(p.valid, functional.basket_of(labels, p.offsets), -1),
        row_alias=torch.where(p.valid, p.aliases[labels], -1),
        row_guard=(cos_t - guard.d).float() if guard is not None else None, mined_in_lse=False,
    )  # fmt: skip
    return call, p.w[index].contiguous(), index


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("mining", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_shards_are_the_whole(dtype: torch.dtype, mining: str, cut: str, gpu) -> None:
    p = make(
        rows=21, depth=40, sizes=SIZES, dtype=dtype, spread=0.3, mining=RULES[mining], mates=True, scale=16.0
    )
    lse, cos_t, mined, mined_cos = p.oracle()
    u, t = upstream(p)
    want_dx, want_dw = p.oracle_gradients(u, t)
    parts, offered, dx, dw = [], [], torch.zeros(21, 40), torch.zeros(97, 40)
    found_cos = torch.zeros(21)
    with gpu.whole_stack():
        for kept in CUTS[cut](torch.arange(97)):
            call, w, index = shard_call(p, kept, cos_t)
            part_lse, part_cos, idx, cos, stash = call.forward(call.x, w)
            parts.append(part_lse.double())
            found_cos += part_cos
            classes = torch.where(idx >= 0, torch.cat([index, index.new_zeros(1)])[idx], -1)
            offered.append(torch.where(classes >= 0, cos, -torch.inf))
            at = torch.searchsorted(index, mined.clamp_min(0))
            mine = (mined >= 0) & kept[mined.clamp_min(0)]
            kept_cos = torch.where(mine, mined_cos, 0.0).float()
            saved = CoreOutputs(lse.float(), cos_t.float(), torch.where(mine, at, -1), kept_cos, stash)
            gradients = call.backward(u.float(), t.float(), w, saved, True, True)
            part_dx, dw[index] = (g.float() for g in gradients)
            dx += part_dx
    valid = p.valid
    torch.testing.assert_close(found_cos[valid].double(), cos_t[valid], rtol=0, atol=1e-6)
    together = torch.logsumexp(torch.stack(parts), 0)
    if mining == "top-k":  # lse is of the own basket; the lists, in order, are the whole's
        together = torch.logaddexp(together, torch.logsumexp(
            torch.where(mined >= 0, p.scale * mined_cos, -torch.inf).flatten(1), 1
        ))  # fmt: skip
        best = torch.cat(offered, 2).sort(2, descending=True).values[:, :, :4]
        torch.testing.assert_close(torch.where(mined >= 0, best.double(), 0.0), mined_cos, rtol=0, atol=1e-6)
    torch.testing.assert_close(together[valid], lse[valid], rtol=2e-6, atol=1e-5)
    precision = "fp32" if dtype == torch.float32 else "bf16"
    floor = max(TABLE[precision].floor, 2e-7 * p.scale)
    assert relative_l2(dx, want_dx) <= floor
    assert relative_l2(dw, want_dw) <= floor


def test_a_class_parallel_head_of_one_rank(gpu, tmp_path: Path) -> None:
    """The module under a process group: gathering, merging and summing around the same op bodies."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        p = make(rows=21, depth=40, sizes=SIZES, spread=0.3, mates=True)
        heads = [
            bs.BasketSoftmaxLoss(
                SIZES, 40, mining=bs.TopK(3, 1), aliases=p.aliases, scale=32.0, process_group=group
            )
            for group in (None, dist.group.WORLD)
        ]
        results = []
        for head in heads:
            head.load_full_weight(p.w)
            x = p.x.clone().requires_grad_()
            with gpu.whole_stack():
                loss = head(x, p.labels)
                loss.backward()
            assert gpu.launches
            results.append((loss.detach(), x.grad, head.weight.grad))
    finally:
        dist.destroy_process_group()
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
