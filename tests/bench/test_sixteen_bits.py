"""The providers with 16-bit embeddings and fp32 centres, as a GPU times them: one loss, gradients of either dtype."""

import pytest
import torch

import basket_softmax as bs
from bbs_bench.cases import Case, make_data
from bbs_bench.measure import LOSS_TOLERANCE
from bbs_bench.providers import OURS, PROVIDERS

# Not torch.compile, which takes minutes here, nor what refuses fp16 or casts its own centres.
PLAIN = ("eager PyTorch", "insightface's formula", "chunk-over-C loop", "F.linear_cross_entropy")
CASES = [
    Case("margin", 64, 96, (400,), bs.Own()),
    Case("no margin", 64, 16, (400,), bs.Own(), margin=0.0),
    Case("baskets", 64, 96, (150, 250), bs.TopK(8)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_formulas_in_plain_pytorch_compute_our_loss(case, dtype):
    data = make_data(case, dtype=getattr(torch, dtype))
    assert data.w.dtype == torch.float32
    ours = float(PROVIDERS[OURS](case, data).forward().detach())
    relative, absolute = LOSS_TOLERANCE[dtype]
    found = []
    for name in PLAIN:
        step = PROVIDERS[name](case, data)
        if step is None:
            continue
        loss = step.forward()
        assert float(loss.detach()) == pytest.approx(ours, rel=relative, abs=absolute), name
        assert [g.dtype for g in step.backward(loss)] == [data.x.dtype, torch.float32], name
        found.append(name)
    expected = {"margin": PLAIN[:3], "no margin": PLAIN, "baskets": PLAIN[:1]}
    assert found == [*expected[case.name]]


def test_data_of_a_dtype_are_the_same_numbers_rounded():
    full, half = (make_data(CASES[0], dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(full.w, half.w)
    assert torch.equal(full.x.detach().bfloat16(), half.x.detach())
    assert torch.equal(full.labels, half.labels)
