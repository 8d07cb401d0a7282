"""Every input that is refused, with an error that names the argument, what came and what is allowed."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import ArcFace, functional
from bbs_kernels.rules import Ema, TopK

from .problem import make

GOOD = make(rows=6, depth=4, sizes=(3, 5))


def call(**changes: object):
    arguments = {
        "x": GOOD.x, "w": GOOD.w, "labels": GOOD.labels, "offsets": GOOD.offsets, "scale": 64.0, "mining": TopK(2, 1),
        **changes,
    }  # fmt: skip
    return functional.cos_lse(**arguments)


@pytest.mark.parametrize("label", [8, 99, -2, -100, 2**40])
@pytest.mark.parametrize("row", [0, 5])
def test_label_out_of_range_names_label_and_range(label: int, row: int) -> None:
    labels = GOOD.labels.clone()
    labels[row] = label
    with pytest.raises(
        RuntimeError, match=rf"labels\[{row}\] = {label} .*out of range.* 0 to 7 .*ignore_index = -1"
    ):
        call(labels=labels)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be a tensor"),
        ({"x": GOOD.x[0]}, ValueError, r"x has shape \(4,\), allowed is \[B, D\]"),
        ({"x": GOOD.x[:, :0], "w": GOOD.w[:, :0]}, ValueError, "D > 0"),
        (
            {"x": GOOD.x.int()},
            TypeError,
            "x is torch.int32, allowed are float64, float32, float16 and bfloat16",
        ),
        ({"w": None}, TypeError, "w must be a tensor"),
        ({"w": GOOD.w[:, :3]}, ValueError, r"w has shape \(8, 3\), allowed is \[C, 4\]"),
        ({"w": GOOD.w.double()}, TypeError, "w is torch.float64 with x torch.float32"),
        ({"w": GOOD.w.half()}, TypeError, "w is torch.float16 with x torch.float32"),
        ({"x": GOOD.x.half(), "w": GOOD.w.bfloat16()}, TypeError, "w is torch.bfloat16 with x torch.float16"),
        ({"x": GOOD.x.half(), "w": GOOD.w.double()}, TypeError, "w is torch.float64 with x torch.float16"),
        ({"labels": GOOD.labels[:5]}, ValueError, r"labels has shape \(5,\), allowed is \(6,\)"),
        ({"labels": GOOD.labels[:, None]}, ValueError, "labels has shape"),
        ({"labels": GOOD.labels.int()}, TypeError, "labels is torch.int32, allowed is int64"),
        ({"offsets": torch.tensor([8])}, ValueError, r"offsets has shape \(1,\), allowed is \[K \+ 1\]"),
        ({"offsets": torch.tensor([0, 3, 8], dtype=torch.int32)}, TypeError, "offsets is torch.int32"),
        ({"offsets": torch.tensor([1, 3, 8])}, RuntimeError, "offsets run from 1 to 8, allowed is from 0"),
        (
            {"offsets": torch.tensor([0, 3, 7])},
            RuntimeError,
            "offsets run from 0 to 7, .* number of classes, 8",
        ),
        ({"offsets": torch.tensor([0, 9, 8])}, RuntimeError, r"offsets\[1\] = 9 is above offsets\[2\] = 8"),
        ({"scale": 0.0}, ValueError, r"scale is 0\.0, allowed are values above 0, up to 1e\+06"),
        ({"scale": -1.0}, ValueError, "scale is -1.0"),
        ({"scale": float("inf")}, ValueError, "scale is inf"),
        ({"scale": float("nan")}, ValueError, "scale is nan"),
        ({"scale": "64"}, TypeError, "scale must be a number"),
        ({"mining": "topk"}, TypeError, "mining must be All"),
        (
            {"aliases": torch.zeros(7, dtype=torch.int64)},
            ValueError,
            r"aliases has shape \(7,\), allowed is \(8,\)",
        ),
        ({"aliases": torch.zeros(8)}, TypeError, "aliases is torch.float32, allowed is torch.int64"),
        ({"mining": TopK(2, 1, Ema(0.5))}, ValueError, "ema is None"),
        (
            {"mining": TopK(2, 1, Ema(0.5)), "ema": torch.zeros(3)},
            ValueError,
            r"ema has shape \(3,\), allowed is",
        ),
        ({"labels": torch.zeros(6, dtype=torch.int64, device="meta")}, ValueError, "labels is on meta"),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, dict) else "",
)
def test_refused(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(**changes)


def test_too_many_mined_classes() -> None:
    baskets = 16384 // 64 + 1
    w, x = torch.randn(baskets * 64, 2), torch.randn(3, 2)
    offsets = torch.arange(baskets + 1) * 64
    with pytest.raises((ValueError, RuntimeError), match=r"16448 .*allowed are 16384: use a smaller k"):
        functional.cos_lse(x, w, torch.zeros(3, dtype=torch.int64), offsets, scale=1.0, mining=TopK(64, 1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rule", 4, "rule is 4, allowed are 0"),
        ("k", 128, r"k = 128, skip = 1, allowed are values from 0 with k \+ skip <= 128"),
        ("k", -1, "k = -1"),
        ("skip", -1, "skip = -1"),
        ("guard_kind", 5, "guard_kind is 5"),
        ("guard_kind", 3, "guard is missing with guard_kind 3"),
        ("scale", 0.0, "scale is 0, allowed are values above 0, up to 1e"),
        ("x", GOOD.x.int(), "x is int32"),
        ("w", GOOD.w.double(), "w is float64 with x float32"),
        ("labels", GOOD.labels.int(), "labels is int32, allowed is int64"),
        ("aliases", torch.zeros(3, dtype=torch.int64), r"aliases has shape \[3\], allowed is \[8\]"),
        ("guard", torch.zeros(6), "guard is given with guard_kind 0"),
        ("offsets", GOOD.offsets.int(), "offsets must be an int64 tensor on the CPU"),
    ],
)
def test_refused_by_the_op(name: str, value: object, message: str) -> None:
    """The op is public too, and checks by itself."""
    arguments = {
        "x": GOOD.x, "w": GOOD.w, "labels": GOOD.labels, "offsets": GOOD.offsets, "guard": None, "aliases": None,
        "scale": 64.0, "rule": 3, "k": 2, "skip": 1, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
    }  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        torch.ops.bbs_kernels.cos_lse(**{**arguments, name: value})


def test_below_without_a_guard_is_refused_by_the_op() -> None:
    with pytest.raises(RuntimeError, match="without a guard"):
        torch.ops.bbs_kernels.cos_lse(
            GOOD.x, GOOD.w, GOOD.labels, GOOD.offsets, None, None, 64.0, 2, 0, 0, 0, 0.0, -1
        )


@pytest.mark.parametrize("index", [[0, 0], [3, 1], [-1, 2], [0, 8]])
def test_class_index_must_ascend_within_the_classes(index: list[int]) -> None:
    with pytest.raises(RuntimeError, match=r"class_index.*strictly ascending values from 0 to 7"):
        call(class_index=torch.tensor(index), labels=torch.full((6,), -1))


def test_labels_must_be_sampled() -> None:
    labels = torch.full((6,), -1)
    labels[4] = 2
    with pytest.raises(RuntimeError, match=r"labels\[4\] = 2 is not in class_index"):
        call(class_index=torch.tensor([0, 5]), labels=labels)


def test_workspace_bytes_must_not_be_negative() -> None:
    with pytest.raises(RuntimeError, match="workspace_bytes is -1, allowed are values from 0"):
        call(workspace_bytes=-1)
    with pytest.raises(RuntimeError, match="workspace_bytes is -1"):
        functional.margin_softmax(
            GOOD.x, GOOD.w, GOOD.labels, GOOD.offsets, margin=ArcFace(), scale=64.0, mining=TopK(2, 1),
            workspace_bytes=-1,
        )  # fmt: skip


def test_no_second_derivative() -> None:
    x = GOOD.x.clone().requires_grad_()
    lse = call(x=x)[0]
    (dx,) = torch.autograd.grad(lse[GOOD.labels >= 0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        dx.sum().backward()
