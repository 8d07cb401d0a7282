"""Every input that is refused, with an error that names the argument, what was expected and what came."""

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
        RuntimeError, match=rf"labels\[{row}\]: expected 0 to 7 or ignore_index = -1, got {label}"
    ):
        call(labels=labels)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x: expected a tensor"),
        ({"x": GOOD.x[0]}, ValueError, r"x: expected shape \[B, D\] with D > 0, got \(4,\)"),
        ({"x": GOOD.x[:, :0], "w": GOOD.w[:, :0]}, ValueError, "D > 0"),
        (
            {"x": GOOD.x.int()},
            TypeError,
            "x: expected float64, float32, float16 or bfloat16, got torch.int32",
        ),
        ({"w": None}, TypeError, "w: expected a tensor"),
        ({"w": GOOD.w[:, :3]}, ValueError, r"w: expected shape \[C, 4\] with x \(6, 4\), got \(8, 3\)"),
        (
            {"w": GOOD.w.double()},
            TypeError,
            "w: expected torch.float32 with x torch.float32, got torch.float64",
        ),
        (
            {"w": GOOD.w.half()},
            TypeError,
            "w: expected torch.float32 with x torch.float32, got torch.float16",
        ),
        (
            {"x": GOOD.x.half(), "w": GOOD.w.bfloat16()},
            TypeError,
            "w: expected torch.float16 or float32 with x torch.float16, got torch.bfloat16",
        ),
        (
            {"x": GOOD.x.half(), "w": GOOD.w.double()},
            TypeError,
            "w: expected torch.float16 or float32 with x torch.float16, got torch.float64",
        ),
        (
            {"labels": GOOD.labels[:5]},
            ValueError,
            r"labels: expected shape \(6,\) with x \(6, 4\), got \(5,\)",
        ),
        ({"labels": GOOD.labels[:, None]}, ValueError, "labels: expected shape"),
        ({"labels": GOOD.labels.int()}, TypeError, "labels: expected int64, got torch.int32"),
        (
            {"offsets": torch.tensor([8])},
            ValueError,
            r"offsets: expected shape \[K \+ 1\] with K > 0, got \(1,\)",
        ),
        (
            {"offsets": torch.tensor([0, 3, 8], dtype=torch.int32)},
            TypeError,
            "offsets: expected int64 on the CPU, got torch.int32",
        ),
        (
            {"offsets": torch.tensor([1, 3, 8])},
            RuntimeError,
            "offsets: expected to run from 0 to the number of classes, 8, got 1 to 8",
        ),
        (
            {"offsets": torch.tensor([0, 3, 7])},
            RuntimeError,
            "offsets: expected to run from 0 to the number of classes, 8, got 0 to 7",
        ),
        (
            {"offsets": torch.tensor([0, 9, 8])},
            RuntimeError,
            r"offsets: expected ascending values, got offsets\[1\] = 9 above offsets\[2\] = 8",
        ),
        ({"scale": 0.0}, ValueError, r"scale: expected a number above 0, up to 1e\+06, got 0\.0"),
        ({"scale": -1.0}, ValueError, "scale: expected .*, got -1.0"),
        ({"scale": float("inf")}, ValueError, "scale: expected .*, got inf"),
        ({"scale": float("nan")}, ValueError, "scale: expected .*, got nan"),
        ({"scale": "64"}, TypeError, "scale: expected a number"),
        ({"mining": "topk"}, TypeError, "mining: expected All"),
        (
            {"aliases": torch.zeros(7, dtype=torch.int64)},
            ValueError,
            r"aliases: expected shape \(8,\), got \(7,\)",
        ),
        ({"aliases": torch.zeros(8)}, TypeError, "aliases: expected torch.int64, got torch.float32"),
        ({"mining": TopK(2, 1, Ema(0.5))}, ValueError, "ema: expected .*, got None"),
        (
            {"mining": TopK(2, 1, Ema(0.5)), "ema": torch.zeros(3)},
            ValueError,
            r"ema: expected shape .*, got \(3,\)",
        ),
        (
            {"labels": torch.zeros(6, dtype=torch.int64, device="meta")},
            ValueError,
            "labels: expected the device of x, cpu, got meta",
        ),
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
    with pytest.raises(
        (ValueError, RuntimeError),
        match=r"expected up to 16384 listed classes a row, got 16448 .*: use a smaller k",
    ):
        functional.cos_lse(x, w, torch.zeros(3, dtype=torch.int64), offsets, scale=1.0, mining=TopK(64, 1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rule", 4, r"rule: expected 0 \(all\), 1 .*, got 4"),
        ("k", 128, r"k, skip: expected values from 0 with k \+ skip <= 128, got k = 128, skip = 1"),
        ("k", -1, "k = -1"),
        ("skip", -1, "skip = -1"),
        ("guard_kind", 5, "guard_kind: expected 0 to 3, got 5"),
        ("guard_kind", 3, "guard: expected a tensor exactly with guard_kind 3, got none with guard_kind 3"),
        ("scale", 0.0, "scale: expected a number above 0, up to 1e.06, got 0"),
        ("x", GOOD.x.int(), "x: expected .*, got int32"),
        ("w", GOOD.w.double(), "w: expected the dtype of x, float32, .*, got float64"),
        ("labels", GOOD.labels.int(), "labels: expected int64, got int32"),
        ("aliases", torch.zeros(3, dtype=torch.int64), r"aliases: expected shape \[8\], got \[3\]"),
        (
            "guard",
            torch.zeros(6),
            "guard: expected a tensor exactly with guard_kind 3, got one with guard_kind 0",
        ),
        ("offsets", GOOD.offsets.int(), "offsets: expected int64 on the CPU"),
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
    with pytest.raises(RuntimeError, match="guard_kind: expected 1, 2 or 3"):
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
    with pytest.raises(RuntimeError, match=r"labels\[4\]: expected a class of class_index, .*, got 2"):
        call(class_index=torch.tensor([0, 5]), labels=labels)


def test_workspace_bytes_must_not_be_negative() -> None:
    with pytest.raises(RuntimeError, match="workspace_bytes: expected a value from 0, got -1"):
        call(workspace_bytes=-1)
    with pytest.raises(RuntimeError, match="workspace_bytes: expected a value from 0, got -1"):
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
