"""Faults of the host code are noticed: a line of csrc is changed, the library is built from it, a step must fail."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import basket_softmax as bs

from .steps import step

pytestmark = pytest.mark.emulated

RULE = bs.TopK(3, 1, bs.Relative(0.1))
OTHER_CONTEXT = 0xC001


# --- steps, each of which passes with the library as it is (test_every_step_passes)
def whole(gpu: Any) -> None:
    """A margin of the combined family, in one run."""
    step(RULE, mates=True).check(gpu)


def core(gpu: Any) -> None:
    """A margin that Python computes between the two passes."""
    step(RULE, mates=True, margin=lambda cos_t: cos_t - 0.2).check(gpu)


def many_rows(gpu: Any) -> None:
    """Arrays of more than the 256 bytes to which their sizes are rounded."""
    step(RULE, mates=True, rows=97).check(gpu)


def several_runs(gpu: Any) -> None:
    step(RULE, mates=True, sizes=(300, 17, 1, 0, 48), workspace_bytes=0).check(gpu)


def only_w(gpu: Any) -> None:
    one = step(RULE, mates=True)
    one.batch.x.requires_grad_(False)
    want, _, dw = one.dense(torch.float64)
    loss = one.run(gpu)
    torch.testing.assert_close(loss.double(), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.head.weight.grad.double(), dw, rtol=1e-4, atol=1e-7)
    assert not any(
        "finish_rows" in launch.symbol or "gradient_rows" in launch.symbol for launch in gpu.launches
    )


def strided(gpu: Any) -> None:
    """Rows of a wider x, and labels that must be packed first."""
    one = step(RULE, mates=True, depth=31)
    wide = torch.full((21, 37), torch.nan)
    wide[:, 2:33] = one.batch.x.detach()
    x = wide[:, 2:33].requires_grad_()
    labels = torch.stack([one.batch.labels, one.batch.labels * 0 + 3], 1)[:, 0]
    one._replace(batch=one.batch._replace(x=x, labels=labels)).check(gpu)


def columns_of_x(gpu: Any) -> None:
    one = step(RULE, mates=True)
    x = one.batch.x.detach().t().contiguous().t().requires_grad_()
    one._replace(batch=one.batch._replace(x=x)).check(gpu)


def another_device(gpu: Any) -> None:
    step(RULE, mates=True).check(gpu, device=1)


def no_context(gpu: Any) -> None:
    gpu.driver.forget_contexts()
    step(RULE, mates=True).check(gpu)


def context_of_another_device(gpu: Any) -> None:
    gpu.driver.forget_contexts()
    gpu.driver.cuCtxSetCurrent(OTHER_CONTEXT)
    try:
        step(RULE, mates=True).check(gpu)
        assert gpu.driver.context() == OTHER_CONTEXT
    finally:
        gpu.driver.forget_contexts()


def late_label(gpu: Any) -> None:
    one = step(RULE, mates=True, reduction="none")
    x, labels = one.batch
    wrong = labels.clone()
    wrong[5] = 97
    with gpu.whole_stack(), torch.no_grad():
        one.head(x, labels)
        for tell in (bs.check, lambda: one.head(x, labels)):
            assert one.head(x, wrong)[5].isnan()
            with pytest.raises(RuntimeError, match="expected 0 to 96 or ignore_index, got 97;"):
                tell()
            before = len(gpu.driver.calls)
            bs.check()
            assert "cuCtxSynchronize" in gpu.driver.calls[before:]
            assert one.head(x, labels).isfinite().all()


def resident(gpu: Any) -> None:
    """More shared memory than a kernel has without asking, on each device."""
    for device in (0, 1):
        step(bs.TopK(3, 1), precision="bf16", depth=136).check(gpu, device=device)
        assert max(launch.shared for launch in gpu.launches) > 48 * 1024


def no_rows(gpu: Any) -> None:
    one = step(RULE, mates=True, rows=0)
    one.run(gpu)
    assert (one.head.weight.grad == 0).all()


STEPS = [
    whole, core, many_rows, several_runs, only_w, strided, columns_of_x, another_device, no_context,
    context_of_another_device, late_label, resident, no_rows,
]  # fmt: skip


class Mutation(NamedTuple):
    """`before` stands in `file` of csrc and becomes `after`; one of `steps` must then fail."""

    file: str
    before: str
    after: str
    steps: tuple[Callable[[Any], None], ...]


def left_out(file: str, line: str, *steps: Callable[[Any], None]) -> Mutation:
    return Mutation(file, line, "", steps)


FORWARD, BACKWARD, PLAN = "cuda/forward_call.h", "cuda/backward_call.h", "cuda/plan.h"
OPS, CALL = "torch/cuda_ops.cpp", "torch/cuda_call.h"
FEW = {  # in every `make test-emulated`
    "lse and cos_t swapped": Mutation(
        OPS, "{data<float>(lse), data<float>(cos_t),", "{data<float>(cos_t), data<float>(lse),", (core,)
    ),
    "a temporary that nobody keeps": Mutation(
        CALL, "describe_call(x, w, labels, guard", "describe_call(x, w, packed(labels_), guard", (strided,)
    ),
    "the default stream": Mutation(CALL, "cuda::Queue{device, stream}", "cuda::Queue{device, nullptr}", (whole,)),
    "an array too short": Mutation(PLAN, "take(slots * rows * plan", "take((slots - 1) * rows * plan", (whole,)),
}  # fmt: skip
MANY = {
    "gradients swapped": Mutation(
        BACKWARD, "r.grad_lse = memory.grad_lse;", "r.grad_lse = memory.grad_cos_t;", (core,)
    ),
    "cosines of the mined for lse": Mutation(BACKWARD, "r.lse = memory.lse;", "r.lse = memory.mined_cos;", (whole,)),
    "dx and dw swapped": Mutation(
        OPS, "need_dx ? matrix(by_rows) : cuda::Matrix{},", "need_dx ? matrix(dw) : cuda::Matrix{},", (whole,)
    ),
    "guards of rows too short": Mutation(
        PLAN, "plan.at.guard = take(rows * 4);", "plan.at.guard = take(rows * 2);", (many_rows,)
    ),
    "pairs too short": Mutation(
        BACKWARD, "l.pairs = take(l.pair_count *", "l.pairs = take((l.pair_count - rows) *", (many_rows, whole)
    ),
    "the workspace too short": Mutation(
        OPS, "device_bytes(x, layout.total)", "device_bytes(x, layout.total - 256)", (whole,)
    ),
    "rows of a workspace that overlap": Mutation(
        BACKWARD, "l.row_factor = take(padded * 4);", "l.row_factor = l.dense_lse;", (whole,)
    ),
    "no order_rows before the sweep": left_out(
        FORWARD, "  launch(kernel_of(KernelName::order_rows, s), Grid{plan.order_blocks}, kPrepareThreads, 0, p);\n",
        whole,
    ),
    "no prepare_rows in the backward": left_out(
        BACKWARD, "  add(KernelName::prepare_rows, {l.forward.prepare_blocks}, kPrepareThreads, 0, forward);\n", whole
    ),
    "no order_rows in the backward": left_out(
        BACKWARD, "  add(KernelName::order_rows, {l.forward.order_blocks}, kPrepareThreads, 0, forward);\n", whole
    ),
    "no row_scale": left_out(BACKWARD, "  add(KernelName::row_scale, {1}, kRowScaleThreads, 0, rows);\n", whole),
    "no backward_pairs": left_out(
        BACKWARD, "  add(KernelName::backward_pairs, {l.dense.padded_rows}, kPairsThreads, 0, rows);\n", whole
    ),
    "no scan of the digits": left_out(
        BACKWARD, "      add(KernelName::scan_digits, {l.sort.digits}, kSortThreads, 0, pass);\n", whole
    ),
    "no gather_pairs": Mutation(
        BACKWARD, "add(KernelName::gather_pairs, {l.sort.gather_blocks}", "add(KernelName::gather_pairs, {0}", (whole,)
    ),
    "no find_baskets": left_out(
        BACKWARD, "  add(KernelName::find_baskets, {l.dense.basket_blocks}, kPrepareThreads, 0, dense);\n", whole
    ),
    "no normalize_classes": Mutation(
        BACKWARD, "add(KernelName::normalize_classes, {tiles *", "add(KernelName::normalize_classes, {0 *", (whole,)
    ),
    "no finish_rows": left_out(
        BACKWARD, "    add(KernelName::finish_rows, {s.rows}, kFinishThreads, 0, rows);\n", whole
    ),
    "one block fewer in the merge": Mutation(
        FORWARD, "merge_splits, s), Grid{plan.merge_blocks}", "merge_splits, s), Grid{plan.merge_blocks - 1}", (core,)
    ),
    "another device's guard": Mutation(CALL, "device_guard(device),", "device_guard(0),", (another_device,)),
    "a device guard that stays": left_out(
        "torch/accelerator.cpp", "table_.delete_device_guard(guard_);", another_device
    ),
    "no context": Mutation(
        "cuda/runtime/context.cpp", "  if (before_ == primary) return;\n", "  return;\n", (no_context,)
    ),
    "the context of another device": Mutation(
        "cuda/runtime/context.cpp", "  if (before_ == primary) return;\n", "  if (before_) return;\n",
        (context_of_another_device,),
    ),
    "a context that stays": left_out(
        "cuda/runtime/context.cpp", "  if (changed_) driver().cuCtxSetCurrent(before_);\n",
        context_of_another_device,
    ),
    "tables swapped": Mutation(
        "torch/cuda_tables.h",
        "{to_device(offsets, ScalarType::Long, device), to_device(tile_begin, ScalarType::Int, device)}",
        "{to_device(std::vector<int64_t>(tile_begin.begin(), tile_begin.end()), ScalarType::Long, device), "
        "to_device(std::vector<int32_t>(offsets.begin(), offsets.end()), ScalarType::Int, device)}",
        (whole,),
    ),
    "one split more": Mutation(
        PLAN, "p.sweep.splits = plan.splits;", "p.sweep.splits = plan.splits + 1;", (whole,)
    ),
    "half a list": Mutation(
        PLAN, "p.sweep.list_length = plan.list_length;", "p.sweep.list_length = plan.list_length / 2;", (whole,)
    ),
    "no aliases": Mutation(FORWARD, "q.aliases = c.aliases;", "q.aliases = nullptr;", (whole,)),
    "a gradient that nobody wants": Mutation(
        BACKWARD, "r.need_dx = needs.dx;", "r.need_dx = true;", (only_w,)
    ),
    "launches that nobody wants": Mutation(
        BACKWARD,
        "    if (needs.dx) {\n      add(KernelName::normalize",
        "    if (true) {\n      add(KernelName::normalize",
        (only_w,),
    ),
    "a workspace that nobody keeps": Mutation(
        OPS, "const Tensor workspace = device_bytes(x, layout.total);",
        "struct { void* at; void* data_ptr() const { return at; } } const workspace{device_bytes(x, "
        "layout.total).data_ptr()};",
        (whole,),
    ),
    "the stride of x from w": Mutation(
        FORWARD, "q.x_stride = c.x.row_stride;", "q.x_stride = c.w.row_stride;", (strided,)
    ),
    "every run is the first": Mutation(
        BACKWARD, "dense.run = plan_run(l.dense, n);", "dense.run = plan_run(l.dense, 0);", (several_runs,)
    ),
    "a run left out": Mutation(BACKWARD, "n < l.dense.runs;", "n + 1 < l.dense.runs;", (several_runs,)),
    "a label that is told again": Mutation(
        "cuda/runtime/device.cpp", "return __atomic_exchange_n(&found->word, BadLabel::none, __ATOMIC_ACQ_REL);",
        "return __atomic_load_n(&found->word, __ATOMIC_ACQUIRE);", (late_label,),
    ),
    "no place for a label": Mutation(
        OPS, "cuda::known_bad_label(),\n                            {data<float>(lse)",
        "nullptr,\n                            {data<float>(lse)", (late_label,),
    ),
    "a label that the next call does not tell": Mutation(
        CALL, "      raise_bad_label();\n    }", "    }", (late_label,)
    ),
    "a check that does not wait": left_out(OPS, "  cuda::wait_for_used_devices();\n", late_label),
    "shared memory that nobody asked for": Mutation(
        "cuda/runtime/launch.cpp", "allow_shared(found, kernel, shared_bytes, queue.device);", "", (resident,)
    ),
    "shared memory of the first device": Mutation(
        "cuda/runtime/launch.cpp", "static_cast<uint64_t>(queue.device) << 32 | id_of(kernel)", "id_of(kernel)",
        (resident,),
    ),
    "dw without rows": left_out(OPS, "  if (rows == 0 && need_dw) torch::stable::zero_(dw);\n", no_rows),
    "dx of columns left in rows": left_out(
        OPS, "  if (need_dx && dx.stride(1) != 1) torch::stable::copy_(dx, by_rows);\n", columns_of_x
    ),
}  # fmt: skip


def mutated_library(mutation: Mutation, folder: Path) -> Any:
    """The op library with the change, loaded; kept like the unchanged one, by what it was made from."""
    from support.emulated_gpu import library

    text = (library.CSRC / mutation.file).read_text()
    assert text.count(mutation.before) == 1, f"{mutation.file} does not hold once: {mutation.before}"
    csrc = folder / "csrc"
    shutil.copytree(library.CSRC, csrc)
    (csrc / mutation.file).write_text(text.replace(mutation.before, mutation.after))
    key = repr((library.host_digest(), mutation[:3]))
    return library.load(library.build(csrc, f"mutated-{hashlib.sha256(key.encode()).hexdigest()[:16]}"))


@pytest.fixture
def mutants(tmp_path: Path) -> Callable[[Mutation], Any]:
    from support.emulated_gpu import EmulatedGpu
    from support.emulated_gpu.images import BUILT_ARCH

    return lambda mutation: EmulatedGpu(BUILT_ARCH, library=mutated_library(mutation, tmp_path))


def is_noticed(mutation: Mutation, gpu: Any) -> None:
    import ptxvm

    for one in mutation.steps:
        try:
            one(gpu)
        except (AssertionError, RuntimeError, ptxvm.PTXError, pytest.fail.Exception):
            return
    pytest.fail(
        f"{', '.join(s.__name__ for s in mutation.steps)} passed with {mutation.after!r} in {mutation.file}"
    )


@pytest.mark.parametrize("mutation", FEW.values(), ids=FEW)
def test_a_fault_is_noticed(mutation: Mutation, mutants: Callable[[Mutation], Any]) -> None:
    is_noticed(mutation, mutants(mutation))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mutation", MANY.values(), ids=MANY)
def test_many_faults_are_noticed(mutation: Mutation, mutants: Callable[[Mutation], Any]) -> None:
    is_noticed(mutation, mutants(mutation))


@pytest.mark.exhaustive
@pytest.mark.parametrize("one", STEPS, ids=lambda one: one.__name__)
def test_every_step_passes(one: Callable[[Any], None], gpu) -> None:
    """Without a fault; in this order, as a step may leave kernels loaded."""
    one(gpu)
