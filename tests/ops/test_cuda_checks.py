"""What the CUDA kernels do not take is refused by the op bodies before anything is launched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bbs_kernels import _core
from support.cuda_call import MEMORY, OWN, call_of, meta
from support.emulated_gpu import EmulatedGpu

MACHINE = _core.machine_of(90, 132)
X, W, LABELS, OFFSETS = (
    torch.randn(8, 64),
    torch.randn(100, 64),
    torch.zeros(8, dtype=torch.int64),
    (0, 60, 100),
)
GIVEN = {
    "x": X, "w": W, "labels": LABELS, "offsets": torch.tensor(OFFSETS), "guard": None, "aliases": None,
    "scale": 64.0, "rule": 3, "k": 5, "skip": 1, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
}  # fmt: skip
WIDE = torch.zeros(2, 2**20 + 1)


def offsets(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def refused(op: str, given: dict[str, Any], message: str) -> None:
    gpu = EmulatedGpu(80)
    with gpu.run() as ops, pytest.raises(RuntimeError, match=message):
        getattr(ops, op)(**given)
    assert gpu.launches == []


def test_what_is_supported_comes_to_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests change one argument of this call."""
    gpu = EmulatedGpu.fresh(80)

    def no_image(symbol: str, arch: int) -> bytes:
        raise KeyError(symbol)

    monkeypatch.setattr(gpu.driver, "image_of", no_image)
    for op, given in (("cos_lse", GIVEN), ("cos_lse_backward", backward_of({}))):
        with gpu.run() as ops, pytest.raises(KeyError, match="bbs_prepare_rows_fp32_rows"):
            getattr(ops, op)(**given)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"offsets": offsets(0, 5000)}, "offsets: expected to run from 0 to the number of classes, 100, got 0 to 5000"),
        ({"offsets": offsets(0, 60)}, "offsets: expected to run from 0 to .* 100, got 0 to 60"),
        ({"offsets": offsets(0, 60, 30, 100)}, r"offsets: expected ascending values, got offsets\[1\] = 60 "),
        ({"subcenters": 2}, "offsets: expected to run from 0 to .* 50, got 0 to 100"),
        ({"subcenters": 3}, "w: expected a multiple of subcenters = 3 as rows, got 100"),
        ({"subcenters": 17, "w": torch.randn(102, 64)}, "subcenters: expected 1 to 16, got 17"),
        ({"w": torch.randn(4097, 64), "offsets": torch.arange(4098), **OWN}, "expected up to 4096 .*, got 4097"),
        ({"k": 120, "skip": 9}, r"k, skip: expected .* k \+ skip <= 128, got k = 120, skip = 9"),
        ({"k": 2**63 - 1}, "k, skip: expected .*, got k = 9223372036854775807, skip = 1"),
        ({"k": -1}, "k = -1"),
        ({"rule": 1}, "k, skip: expected 0 .*, got k = 5, skip = 1 with rule 1"),
        ({"rule": 4}, "rule: expected .*, got 4"),
        ({"rule": 2, "k": 0, "skip": 0}, r"guard_kind: expected 1, 2 or 3 with rule 2 \(below\), got 0"),
        ({"guard_kind": 4}, "guard_kind: expected 0 to 3, got 4"),
        ({"scale": 0.0}, "scale: expected .*, got 0"),
        ({"workspace_bytes": -1}, "workspace"),
        ({"w": torch.randn(200, 128)[::2, ::2]}, r"w: .*, got strides \[256, 2\]: pass w.contiguous\(\)"),
        (
            {"x": torch.zeros(1, 64).expand(2**24 + 1, 64), "labels": torch.zeros(1).long().expand(2**24 + 1)},
            r"x: expected up to 2\^24 rows and 2\^20 columns on CUDA, got shape \[16777217, 64\]",
        ),
        ({"x": WIDE, "w": WIDE, "labels": LABELS[:2], "offsets": offsets(0, 2)}, r"x: .* 2\^20 columns on CUDA, got"),
        # Strides that a thread's step between copies would wrap: nothing between the rows is ever touched.
        (
            {"w": torch.empty(2**26 + 64).as_strided((2, 64), (2**26, 1)), "offsets": offsets(0, 2)},
            "w: expected fewer than 33554432 elements between .*, got 67108864",
        ),
    ],
)  # fmt: skip
def test_numbers_and_shapes(changed: dict, message: str) -> None:
    refused("cos_lse", GIVEN | changed, message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": X.double(), "w": W.double()}, "x: expected float32, float16 or bfloat16 on CUDA, got float64"),
        ({"x": X[:, :63]}, r"w: expected shape \[C, 63\] with x \[8, 63\], got \[100, 64\]"),
        ({"w": W.half()}, "w: expected .*, got float16"),
        ({"w": W.to("meta")}, "w: expected a tensor on the device of x"),
        ({"labels": torch.zeros(8)}, "labels: expected int64, got float32"),
        ({"labels": LABELS[:7]}, r"labels: expected shape \[8\], got \[7\]"),
        ({"labels": LABELS.to("meta")}, "labels: expected a tensor on the device of x"),
        ({"offsets": torch.tensor([0, 100], dtype=torch.int32)}, "offsets: expected int64 on the CPU, got int32"),
        ({"guard": torch.zeros(8)}, "guard: expected a tensor .*, got one with guard_kind 0"),
        ({"guard_kind": 3}, "guard: expected a tensor .*, got none with guard_kind 3"),
        ({"guard": torch.zeros(8).half(), "guard_kind": 3}, "guard: expected float32, got float16"),
        ({"guard": torch.zeros(8, device="meta"), "guard_kind": 3}, "guard: expected a tensor on the device of x"),
        ({"aliases": torch.zeros(99, dtype=torch.int64)}, r"aliases: expected shape \[100\], got \[99\]"),
        ({"aliases": torch.zeros(100, dtype=torch.int64, device="meta")}, "aliases: expected .* the device of x"),
        (
            {"aliases": torch.zeros(100).long(), "subcenters": 2, "offsets": offsets(0, 50)},
            r"aliases: expected shape \[50\], got \[100\]",
        ),
        ({"row_basket": torch.zeros(8, dtype=torch.int64, device="meta")}, "row_basket: expected .* the device of x"),
        ({"row_alias": torch.zeros(8, dtype=torch.int64, device="meta")}, "row_alias: expected .* the device of x"),
        ({"row_basket": torch.zeros(8, dtype=torch.int32)}, "row_basket: expected int64, got int32"),
        ({"row_basket": torch.zeros(7, dtype=torch.int64)}, r"row_basket: expected shape \[8\], got \[7\]"),
        ({"class_index": torch.arange(5)}, "class_index"),
    ],
)  # fmt: skip
def test_tensors(changed: dict, message: str) -> None:
    refused("cos_lse", GIVEN | changed, message)


def backward_of(changed: dict[str, torch.Tensor]) -> dict[str, Any]:
    rows, lists = torch.zeros(8), torch.zeros(8, 2, 5)
    saved = {name: rows for name in ("grad_lse", "grad_cos_t", "lse", "cos_t")}
    saved |= {"mined_idx": lists.long(), "mined_cos": lists, "stash": torch.zeros(0)}
    forward = {name: value for name, value in GIVEN.items() if name not in ("k", "skip")}
    return forward | {"class_index": None, "need_dx": True, "need_dw": True} | saved | changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lse", torch.zeros(7), r"lse: expected shape \[8\], got \[7\]"),
        ("cos_t", torch.zeros(9), r"cos_t: expected shape \[8\], got \[9\]"),
        ("grad_lse", torch.zeros(8).double(), "grad_lse: expected float32, got float64"),
        ("grad_cos_t", torch.zeros(8, device="meta"), "grad_cos_t: expected a tensor on the device of x"),
        ("mined_idx", torch.zeros(8, 10).long(), r"mined_idx: expected shape \[B, K, k\], got \[8, 10\]"),
        ("mined_idx", torch.zeros(8, 2, 5), "mined_idx, mined_cos: expected the"),
        ("mined_cos", torch.zeros(8, 1, 5), "mined_idx, mined_cos: expected the"),
        ("mined_cos", torch.zeros(8, 2, 5, device="meta"), "mined_cos: expected a tensor on the device of x"),
    ],
)
def test_saved_tensors(name: str, value: torch.Tensor, message: str) -> None:
    refused("cos_lse_backward", backward_of({name: value}), message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"m1": 0.0}, "m1"),
        ({"boundary": 7}, "boundary: expected .*, got 7"),
        ({"target_grad": 7}, "target_grad: expected .*, got 7"),
    ],
)
def test_margins(changed: dict, message: str) -> None:
    margin = {"m1": 1.0, "m2": 0.5, "m3": 0.0, "boundary": 0, "target_grad": 0}
    refused("margin_softmax", GIVEN | margin | changed, message)


def test_pairs_of_a_batch_are_counted_in_32_bits() -> None:
    """4 M rows that list 512 classes each: SortPass.count would be negative."""
    offsets = list(range(0, 64 * 9, 9))
    w = meta((offsets[-1], 64))
    memory = {**MEMORY, "dx": (0, 64, 1), "dw": (0, 64, 1)}

    def plan(rows: int) -> dict:
        call = call_of(meta((rows, 64)), w, len(offsets) - 1, k=9)
        return _core.plan_backward(call, offsets, MACHINE, memory)

    with pytest.raises(RuntimeError, match=r"expected fewer than 2\^31 listed classes .*, got 2378170368"):
        plan(2**22)
    assert plan(2**20)["launches"]


@pytest.mark.parametrize(
    ("x_dtype", "w_dtype", "transposed", "power"),
    [
        (torch.bfloat16, torch.bfloat16, False, 26),
        (torch.bfloat16, torch.float32, False, 26),
        (torch.float32, torch.float32, False, 25),
        (torch.bfloat16, torch.bfloat16, True, 28),
        (torch.bfloat16, torch.float32, True, 28),
        (torch.float32, torch.float32, True, 28),
    ],
)
def test_strides_of_w_that_wrap_in_the_loader(x_dtype, w_dtype, transposed: bool, power: int) -> None:
    """WLoader::pass is a thread's step between copies, in 32 bits of bytes."""
    x = meta((8, 64), dtype=x_dtype)
    for stride, fits in ((2**power - 16, True), (2**power, False)):
        w = meta((100, 64), (1, stride) if transposed else (stride, 1), w_dtype)
        if fits:
            assert _core.plan_forward(call_of(x, w), [0, 100], MACHINE)["w_transposed"] == transposed
            continue
        with pytest.raises(
            RuntimeError, match=f"w: expected fewer than {2**power} elements between .*, got {2**power}"
        ):
            _core.plan_forward(call_of(x, w), [0, 100], MACHINE)


@pytest.mark.parametrize(
    ("dim", "dtype", "power"), [(63, torch.float32, 32), (64, torch.float32, 34), (64, torch.half, 35)]
)
def test_places_of_rows_of_x_that_wrap_in_the_loader(dim: int, dtype: torch.dtype, power: int) -> None:
    """XLoader::row is 32 bits of elements, or of 16 bytes: a wider view is copied, a larger batch refused."""
    w = meta((100, dim), dtype=dtype)
    for rows, fits in ((2**16, True), (2**16 + 1, False)):
        call = call_of(meta((rows, dim), (2 ** (power - 16), 1), dtype), w)
        assert _core.wants_copy(call["x"], call["w"]) != fits
        if fits:
            assert _core.plan_forward(call, [0, 100], MACHINE)["tiles"] == 1
        else:
            with pytest.raises(
                RuntimeError,
                match=f"x: expected to span up to {2**power} elements on CUDA, got .*: use a smaller batch",
            ):
                _core.plan_forward(call, [0, 100], MACHINE)


def test_messages_are_one_line() -> None:
    with EmulatedGpu(80).run() as ops, pytest.raises(RuntimeError) as found:
        ops.cos_lse(**(GIVEN | {"scale": 0.0}))
    assert str(found.value).strip().count("\n") == 0, found.value
