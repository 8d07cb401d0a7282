"""What the CUDA kernels do not take is refused before a launch, on the NVRTC path as in the compiled ops."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import _core
from bbs_kernels.nvrtc import calls, ops

MACHINE = _core.machine_of(90, 132)
NUMBERS = {
    "scale": 64.0, "rule": 3, "k": 5, "skip": 1, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
    "allow_tf32": False,
}  # fmt: skip
OWN = {"rule": 1, "k": 0, "skip": 0}
X, W = torch.randn(8, 64), torch.randn(100, 64)


def meta(shape: tuple[int, int], strides: tuple[int, int] | None = None, dtype=torch.float32) -> torch.Tensor:
    """A size that no machine holds; only its shape, strides and dtype matter here."""
    if strides is None:
        return torch.empty(shape, device="meta", dtype=dtype)
    return torch.empty_strided(shape, strides, device="meta", dtype=dtype)


def plan(x=X, w=W, offsets=(0, 60, 100), **changed) -> dict:
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    numbers = NUMBERS | changed
    call = calls.forward_call(x, w, labels, torch.tensor(offsets), None, None, **numbers)
    begin = calls.centre_offsets(torch.tensor(offsets), numbers.get("subcenters", 1))
    return _core.plan_forward(call, begin, MACHINE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"offsets": (0, 5000)}, "offsets run from 0 to 5000, allowed is from 0 to the number of classes, 100"),
        ({"offsets": (0, 60)}, "offsets run from 0 to 60, .* 100"),
        ({"offsets": (0, 60, 30, 100)}, r"offsets\[1\] = 60 is above offsets\[2\] = 30"),
        ({"offsets": (0, 60, 100), "subcenters": 2}, "offsets run from 0 to 100, .* 50"),
        ({"subcenters": 3}, "w has 100 rows, allowed are multiples of subcenters = 3"),
        ({"subcenters": 17, "w": torch.randn(102, 64)}, "subcenters is 17, allowed are 1 to 16"),
        ({"w": torch.randn(4097, 64), "offsets": tuple(range(4098)), **OWN}, "4097 baskets, allowed are 4096 on CUDA"),
        ({"k": 120, "skip": 9}, "k = 120, skip = 9, .* k \\+ skip <= 128"),
        ({"k": 2**63 - 1}, "k = 9223372036854775807, skip = 1, allowed are"),
        ({"k": -1}, "k = -1"),
        ({"rule": 1}, "k = 5, skip = 1 came with rule 1"),
        ({"rule": 4}, "rule is 4"),
        ({"rule": 2, "k": 0, "skip": 0}, "came without a guard"),
        ({"guard_kind": 4}, "guard_kind is 4"),
        ({"scale": 0.0}, "scale is 0"),
        ({"w": torch.randn(200, 128)[::2, ::2]}, r"w has strides \[256, 2\] on CUDA, .*pass w.contiguous\(\)"),
        ({"x": meta((2**24 + 1, 64))}, r"x has shape \[16777217, 64\] on CUDA, allowed are up to 2\^24 rows"),
        ({"x": meta((2, 2**20 + 1)), "w": meta((100, 2**20 + 1))}, r"x has shape .* 2\^20 columns"),
    ],
)  # fmt: skip
def test_numbers_that_the_nvrtc_path_planned_unchecked(changed: dict, message: str) -> None:
    plan()
    with pytest.raises(RuntimeError, match=message):
        plan(**changed)


def tensors(**changed) -> dict:
    given = {
        "x": X, "w": W, "labels": torch.zeros(8, dtype=torch.int64), "offsets": torch.tensor([0, 60, 100]),
        "guard": None, "aliases": None, "guard_kind": 0, "subcenters": 1,
    }  # fmt: skip
    return given | changed


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": X.double(), "w": W.double()}, TypeError, "x is float64 on CUDA"),
        ({"x": X[:, :63]}, ValueError, r"w has shape \(100, 64\), allowed is \[C, 63\]"),
        ({"w": W.half()}, TypeError, "w is torch.float16"),
        ({"w": W.to("meta")}, ValueError, "w is on meta, allowed is the device of x"),
        ({"labels": torch.zeros(8)}, TypeError, "labels is torch.float32, allowed is int64"),
        ({"labels": torch.zeros(7, dtype=torch.int64)}, ValueError, r"labels has shape \(7,\)"),
        ({"offsets": torch.tensor([0, 100], dtype=torch.int32)}, TypeError, "offsets is torch.int32"),
        ({"guard": torch.zeros(8)}, ValueError, "guard is given with guard_kind 0"),
        ({"guard_kind": 3}, ValueError, "guard is missing with guard_kind 3"),
        ({"guard": torch.zeros(8).half(), "guard_kind": 3}, TypeError, "guard is torch.float16"),
        ({"aliases": torch.zeros(99, dtype=torch.int64)}, ValueError, r"aliases has shape \(99,\)"),
        (
            {"aliases": torch.zeros(100, dtype=torch.int64), "subcenters": 2},
            ValueError,
            r"allowed is \(50,\)",
        ),
        (
            {"row_basket": torch.zeros(8, dtype=torch.int64, device="meta")},
            ValueError,
            "row_basket is on meta",
        ),
        ({"row_alias": torch.zeros(8, dtype=torch.int64, device="meta")}, ValueError, "row_alias is on meta"),
        ({"row_basket": torch.zeros(8, dtype=torch.int32)}, TypeError, "row_basket is torch.int32"),
        ({"class_index": torch.arange(5)}, ValueError, "class_index"),
    ],
)
def test_tensors_that_the_nvrtc_path_read_unchecked(changed: dict, error: type, message: str) -> None:
    calls.check_tensors(**tensors())
    with pytest.raises(error, match=message):
        calls.check_tensors(**tensors(**changed))
    with pytest.raises(error, match=message):  # and the op asks, before it asks for CUDA
        ops.cos_lse(**tensors(**changed), **{n: v for n, v in NUMBERS.items() if n != "guard_kind"})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lse", torch.zeros(7), ValueError),
        ("grad_lse", torch.zeros(8).double(), TypeError),
        ("mined_idx", torch.zeros(8, 2, 5), TypeError),
        ("mined_cos", torch.zeros(8, 1, 5), ValueError),
        ("mined_cos", torch.zeros(8, 2, 5, device="meta"), ValueError),
    ],
)
def test_saved_tensors_that_the_nvrtc_path_read_unchecked(
    name: str, value: torch.Tensor, error: type
) -> None:
    rows, lists = torch.zeros(8), torch.zeros(8, 2, 5)
    saved = {n: rows for n in ("grad_lse", "grad_cos_t", "lse", "cos_t")}
    saved |= {"mined_idx": lists.long(), "mined_cos": lists}
    calls.check_saved(X, 2, 5, **saved)
    with pytest.raises(error, match=name):
        calls.check_saved(X, 2, 5, **(saved | {name: value}))


def test_pairs_of_a_batch_are_counted_in_32_bits() -> None:
    """4 M rows that list 512 classes each: SortPass.count would be negative."""
    offsets = list(range(0, 64 * 9, 9))
    x, w = meta((2**22, 64)), meta((offsets[-1], 64))
    call = calls.forward_call(
        x,
        w,
        x.new_zeros(len(x), dtype=torch.int64),
        torch.tensor(offsets),
        None,
        None,
        **(NUMBERS | {"k": 9}),
    )
    with pytest.raises(RuntimeError, match=r"the rows list 2378170368 classes .* fewer than 2\^31"):
        _core.backward_workspace(call, offsets, MACHINE, True, True)
    call["x"] = (0, 2**20, 64, 64, 1, 4)
    _core.backward_workspace(call, offsets, MACHINE, True, True)


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
            plan(x, w)
            continue
        with pytest.raises(
            RuntimeError, match=f"w has a stride of {2**power} .* allowed are fewer than {2**power} "
        ):
            plan(x, w)


@pytest.mark.parametrize(
    ("dim", "dtype", "power"), [(63, torch.float32, 32), (64, torch.float32, 34), (64, torch.half, 35)]
)
def test_places_of_rows_of_x_that_wrap_in_the_loader(dim: int, dtype: torch.dtype, power: int) -> None:
    """XLoader::row is 32 bits of elements, or of 16 bytes: a wider view is copied, a larger batch refused."""
    w = meta((100, dim), dtype=dtype)
    for rows, fits in ((2**16, True), (2**16 + 1, False)):
        strided = meta((rows, dim), (2 ** (power - 16), 1), dtype)
        assert _core.wants_copy(calls.matrix(strided), calls.matrix(w)) != fits
        if fits:
            plan(strided, w)
        else:
            with pytest.raises(RuntimeError, match=f"allowed are {2**power}: use a smaller batch"):
                plan(strided, w)
