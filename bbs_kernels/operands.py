"""Checks of what the core is called with; each message names the argument, what came and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .rules import MAX_SLOTS, Rule, TopK
from .scalars import is_integer, is_number

MAX_SUBCENTERS = 16  # kMaxSubcenters of csrc/common/rule.h
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Not uint64: values beyond int64 would come out negative, as if they were to be ignored.
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint32, torch.uint16, torch.uint8)

# From about 7e8 one ulp of an fp32 logit is more than exp can take, and gradients became NaN; at the limit the rounding
# of a cosine alone is a step of 0.1 in a logit. Losses of this family use 1 to a few hundred.
LARGEST_SCALE = 1e6


class OperandNames(NamedTuple):
    """What the caller calls the two operands: messages use the caller's words."""

    x: str = "x"
    w: str = "w"


CORE_NAMES = OperandNames()


def check_is_tensor(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")


def check_operands(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, names: OperandNames = CORE_NAMES
) -> None:
    """Raise TypeError or ValueError unless shapes, dtypes and devices go together."""
    of_x, of_w = names
    for name, value in ((of_x, x), (of_w, w), ("labels", labels), ("offsets", offsets)):
        check_is_tensor(name, value)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"{of_x} has shape {tuple(x.shape)}, allowed is [B, D] with D > 0")
    if w.dim() != 2 or w.shape[1] != x.shape[1]:
        raise ValueError(
            f"{of_w} has shape {tuple(w.shape)}, allowed is [C, {x.shape[1]}]: {of_x} is {tuple(x.shape)}"
        )
    if x.dtype not in _FLOATS:
        raise TypeError(f"{of_x} is {x.dtype}, allowed are float64, float32, float16 and bfloat16")
    half = x.dtype in (torch.float16, torch.bfloat16)
    if w.dtype != x.dtype and not (half and w.dtype == torch.float32):
        also = " or float32" if half else ""
        raise TypeError(f"{of_w} is {w.dtype} with {of_x} {x.dtype}, allowed is {x.dtype}{also}")
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, allowed is ({x.shape[0]},): {of_x} is {tuple(x.shape)}"
        )
    if labels.dtype != torch.int64:
        raise TypeError(f"labels is {labels.dtype}, allowed is int64")
    if offsets.dim() != 1 or offsets.shape[0] < 2:
        raise ValueError(f"offsets has shape {tuple(offsets.shape)}, allowed is [K + 1] with K > 0")
    if offsets.dtype != torch.int64 or offsets.device.type != "cpu":
        raise TypeError(f"offsets is {offsets.dtype} on {offsets.device}, allowed is int64 on the CPU")
    for name, value in ((of_w, w), ("labels", labels)):
        if value.device != x.device:
            raise ValueError(f"{name} is on {value.device}, allowed is the device of {of_x}, {x.device}")


def check_subcenters(subcenters: int, w: Tensor) -> int:
    """The number of classes; TypeError or ValueError unless `subcenters` is allowed and divides the rows of `w`."""
    if not is_integer(subcenters):
        raise TypeError(f"subcenters must be an int, got {subcenters!r}")
    if not 1 <= subcenters <= MAX_SUBCENTERS:
        raise ValueError(f"subcenters is {subcenters}, allowed are 1 to {MAX_SUBCENTERS}")
    if w.shape[0] % subcenters != 0:
        raise ValueError(f"w has {w.shape[0]} rows, allowed are multiples of subcenters = {subcenters}")
    return w.shape[0] // subcenters


def check_optional(
    name: str, value: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype | None, device: torch.device
) -> None:
    """Raise TypeError or ValueError unless `value` is None or a tensor of this shape, dtype (None: any) and device."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor or None, got {type(value).__name__}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, allowed is {shape}")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{name} is {value.dtype}, allowed is {dtype}")
    if value.device != device:
        raise ValueError(f"{name} is on {value.device}, allowed is {device}")


def check_scale(scale: float, name: str = "scale") -> None:
    """Raise TypeError or ValueError unless `scale` is a number above 0 and at most `LARGEST_SCALE`.

    Args:
        name: what the caller calls it.
    """
    if not is_number(scale):
        raise TypeError(f"{name} must be a number, got {scale!r}")
    if not 0 < scale <= LARGEST_SCALE:  # not isfinite: torch.compile makes a scale that changes symbolic
        raise ValueError(f"{name} is {scale}, allowed are values above 0, up to {LARGEST_SCALE:g}")


def class_indices(labels: Any, name: str = "labels", kind: str = "class", also: str = "") -> Tensor:
    """Return `labels` as int64, from a tensor of any integer dtype: what heads, baskets and replacements take.

    Bool is refused, since a mask is no label, and floating-point, since a label would be cut to an integer in silence.

    Args:
        name: what the caller calls `labels`.
        kind: what the indices are of.
        also: what else the caller takes, for the message.

    Raises:
        TypeError: no tensor, or one of another dtype.
    """
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGERS:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{name}: expected a tensor of {kind} indices (an integer dtype){also}, got {got}")
    return labels.long()


def check_labels(labels: Any, rows: int) -> Tensor:
    """Return `class_indices(labels)`; raise ValueError unless they are [rows]."""
    labels = class_indices(labels)
    if labels.shape != (rows,):
        raise ValueError(f"labels has shape {tuple(labels.shape)}, allowed is ({rows},)")
    return labels


def check_sample_weight(sample_weight: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError unless `sample_weight` is None or a tensor of this shape."""
    if sample_weight is None:
        return
    if not isinstance(sample_weight, Tensor):
        raise TypeError(f"sample_weight must be a tensor or None, got {type(sample_weight).__name__}")
    if sample_weight.shape != shape:
        raise ValueError(f"sample_weight has shape {tuple(sample_weight.shape)}, allowed is {shape}")


def check_listed(mining: Rule, sizes: Sequence[int]) -> None:
    """Raise ValueError when a rule would list more classes of a row than the kernels hold."""
    if not isinstance(mining, TopK):
        return
    mined = sum(min(mining.k, size) for size in sizes)
    if mined > MAX_SLOTS:
        raise ValueError(
            f"mining lists up to {mined} classes a row (k = {mining.k} over {len(sizes)} baskets), "
            f"allowed are {MAX_SLOTS}: use a smaller k"
        )


def check_rule_size(mining: Rule, offsets: Tensor) -> None:
    """The bound on the mined list, early and by name; under torch.compile the op itself checks it."""
    if isinstance(mining, TopK) and not torch.compiler.is_compiling():
        edges = (
            offsets.tolist()
        )  # reads host memory: no op, which a FakeTensorMode would take for data-dependent
        check_listed(mining, [stop - start for start, stop in pairwise(edges)])
