"""torch.compile(fullgraph=True) of each head on device "cuda": dynamo, then AOTAutograd, forward and backward.

The drop-ins go through dynamo alone, and their backward is eager: they make tensors inside the graph, which AOTAutograd
cannot place where fake CUDA tensors pass for tensors of the CPU.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from cuda_torch.fake_heads import (
    CLASSES,
    COMPAT,
    DTYPES,
    FUSED,
    MAPPED,
    ROWS,
    RULES,
    SINGLE,
    SIZES,
    WIDTH,
    batch,
    fast_reid,
    head,
    on_cuda,
)  # fmt: skip
from support.fake_cuda import CUDA, TOLD, autocast, fake_cuda, whole
from support.pairwise import pairwise

FACTORS = {
    "mining": list(RULES),
    "dtype": list(DTYPES),
    "margin": ["ArcFace", "callable with context", "AdaFace"],  # fused, plain, with state
    "subcenters": [1, 3],
    "aliases": [False, True],
    "labels": ["global", "indices", "name"],
}


def test_later_versions_of_torch_compile_as_a_whole():
    assert whole() == "aot_eager" or tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def cuda():
    with fake_cuda(TOLD[whole()]):
        yield


@pytest.fixture
def cuda_of_dynamo():
    with fake_cuda(TOLD["eager"]):
        yield


def compiled_step(module: nn.Module, x, *arguments, lowered=None, backend=None, **options) -> None:
    compiled = torch.compile(module, fullgraph=True, backend=backend or whole())
    with autocast(lowered) if lowered else nullcontext():
        out = compiled(x, *arguments, **options)
    value = out["loss_cls"] if isinstance(out, dict) else out
    assert (value.device, value.dtype, value.shape) == (CUDA, torch.float32, ())
    value.backward()
    for tensor in (x, *(p for p in module.parameters() if p.requires_grad)):
        assert (tensor.grad.device, tensor.grad.dtype, tensor.grad.shape) == (
            CUDA,
            tensor.dtype,
            tensor.shape,
        )


def name_of(case: dict) -> str:
    return "-".join(map(str, case.values()))


@pytest.mark.parametrize("case", pairwise(FACTORS), ids=name_of)
def test_basket_loss(cuda, case):
    dtype, lowered = DTYPES[case["dtype"]]
    loss = head(
        margin=on_cuda(FUSED[case["margin"]]), mining=RULES[case["mining"]], subcenters=case["subcenters"]
    )
    loss.set_aliases(torch.arange(CLASSES, device="cuda") if case["aliases"] else None)
    options = {}
    if case["labels"] == "indices":
        options["basket"] = torch.randint(len(SIZES), (ROWS,), device="cuda")
    elif case["labels"] == "name":
        options["basket"] = "b"
    compiled_step(loss, *batch(dtype), lowered=lowered, **options)


@pytest.mark.parametrize("margin", sorted(set(FUSED) - set(FACTORS["margin"])))
def test_every_other_margin(cuda, margin):
    compiled_step(head(margin=on_cuda(FUSED[margin])), *batch(torch.float32))


@pytest.mark.parametrize("kind", sorted(set(SINGLE) - {"CurricularFaceLoss", "SphereFaceLoss"}))
def test_head_of_one_dataset(cuda, kind):
    compiled_step(on_cuda(lambda: SINGLE[kind](CLASSES, WIDTH)), *batch(torch.float32))


@pytest.mark.parametrize("kind", COMPAT)
def test_drop_in(cuda_of_dynamo, kind):
    compiled_step(on_cuda(COMPAT[kind]), *batch(torch.float32), backend="eager")


@pytest.mark.parametrize("kind", ["ArcSoftmax", "CosSoftmax"])
def test_fast_reid_head(cuda_of_dynamo, kind):
    compiled_step(fast_reid(kind), *batch(torch.float32, (ROWS, WIDTH, 2, 2)), backend="eager")


@pytest.mark.parametrize("margin", MAPPED)
def test_mapped_negatives_are_a_break_in_the_graph(cuda, margin):
    """As documented: the pass over the blocks of classes runs as it is."""
    loss = head(margin=on_cuda(MAPPED[margin]))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(loss, fullgraph=True, backend="eager")(*batch(torch.float32))
