"""Checks of arguments, and their words: each message names the argument, what was expected and what came.

Numbers first, NumPy's too; then tensors. What only the kernels' side can know is checked in C++
(csrc/common/check_values.h), in the same form.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAX_SUBCENTERS = 16  # kMaxSubcenters of csrc/common/rule.h
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Not uint64: values beyond int64 would come out negative, as if they were to be ignored.
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint32, torch.uint16, torch.uint8)

# From about 7e8 one ulp of an fp32 logit is more than exp can take, and gradients became NaN; at the limit the rounding
# of a cosine alone is a step of 0.1 in a logit. Losses of this family use 1 to a few hundred.
LARGEST_SCALE = 1e6


def is_number(value: Any) -> bool:
    """An int or a float, also NumPy's, and what torch.compile puts in their place; no bool."""
    return not isinstance(value, bool) and isinstance(value, (int, float, Real))


def is_integer(value: Any) -> bool:
    """An int, also NumPy's; no bool."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def finite(owner: str, name: str, value: Any) -> float:
    """`value` as a float; TypeError or ValueError unless it is a finite number."""
    if not is_number(value):
        raise TypeError(f"{owner}: {name}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{owner}: {name}: expected a finite number, got {value}")
    return float(value)


def check_bool(name: str, value: Any) -> bool:
    """Return `value` as a bool; raise TypeError unless it is True or False, also NumPy's (bool, once bool_)."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_bytes(name: str, value: Any) -> int:
    """Return `value` as an int; raise TypeError or ValueError unless it is an integer from 0 that the ops can take."""
    if not is_integer(value):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if not 0 <= value < 2**63:
        raise ValueError(f"{name}: expected a number of bytes from 0, got {value}")
    return int(value)


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int; raise ValueError unless it is an integer, also NumPy's, from 1."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name}: expected a positive int, got {value!r}")
    return int(value)


def angle(owner: str, name: str, value: Any, unit: str = "radians") -> float:
    """Return an added angle as a float, in the unit in which it came.

    Args:
        unit: "radians" or "degrees".

    Raises:
        TypeError, ValueError: it is no number, or outside of [0, pi) or [0, 180).
    """
    value = finite(owner, name, value)
    end, said = (math.pi, "pi") if unit == "radians" else (180.0, "180")
    if not 0.0 <= value < end:
        hint = radians_hint(value) if unit == "radians" else ""
        raise ValueError(f"{owner}: {name}: expected {unit} in [0, {said}), got {value:g}{hint}")
    return value


def radians_hint(value: float) -> str:
    """What to add to the message about an angle that is too large to be in radians; nothing for others."""
    return f"; for degrees: math.radians({value:g})" if value > math.pi else ""


class OperandNames(NamedTuple):
    """What the caller calls the two operands: messages use the caller's words."""

    x: str = "x"
    w: str = "w"


CORE_NAMES = OperandNames()


def check_is_tensor(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")


def check_floating(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a floating-point tensor."""
    check_is_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")


def check_operands(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, names: OperandNames = CORE_NAMES
) -> None:
    """Raise TypeError or ValueError unless shapes, dtypes and devices go together."""
    of_x, of_w = names
    for name, value in ((of_x, x), (of_w, w), ("labels", labels), ("offsets", offsets)):
        check_is_tensor(name, value)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"{of_x}: expected shape [B, D] with D > 0, got {tuple(x.shape)}")
    if w.dim() != 2 or w.shape[1] != x.shape[1]:
        raise ValueError(
            f"{of_w}: expected shape [C, {x.shape[1]}] with {of_x} {tuple(x.shape)}, got {tuple(w.shape)}"
        )
    if x.dtype not in _FLOATS:
        raise TypeError(f"{of_x}: expected float64, float32, float16 or bfloat16, got {x.dtype}")
    half = x.dtype in (torch.float16, torch.bfloat16)
    if w.dtype != x.dtype and not (half and w.dtype == torch.float32):
        also = " or float32" if half else ""
        raise TypeError(f"{of_w}: expected {x.dtype}{also} with {of_x} {x.dtype}, got {w.dtype}")
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"labels: expected shape ({x.shape[0]},) with {of_x} {tuple(x.shape)}, got {tuple(labels.shape)}"
        )
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: expected int64, got {labels.dtype}")
    if offsets.dim() != 1 or offsets.shape[0] < 2:
        raise ValueError(f"offsets: expected shape [K + 1] with K > 0, got {tuple(offsets.shape)}")
    if offsets.dtype != torch.int64 or offsets.device.type != "cpu":
        raise TypeError(f"offsets: expected int64 on the CPU, got {offsets.dtype} on {offsets.device}")
    for name, value in ((of_w, w), ("labels", labels)):
        if value.device != x.device:
            raise ValueError(f"{name}: expected the device of {of_x}, {x.device}, got {value.device}")


def check_subcenters_number(subcenters: Any, name: str = "subcenters") -> int:
    """Return `subcenters` as an int; raise TypeError or ValueError unless it is an integer from 1 to 16.

    Args:
        name: what the caller calls it.
    """
    if not is_integer(subcenters):
        raise TypeError(f"{name}: expected an int, got {subcenters!r}")
    if not 1 <= subcenters <= MAX_SUBCENTERS:
        raise ValueError(f"{name}: expected 1 to {MAX_SUBCENTERS}, got {subcenters}")
    return int(subcenters)


def check_subcenters(subcenters: int, w: Tensor) -> int:
    """The number of classes; TypeError or ValueError unless `subcenters` is 1 to 16 and divides the rows of `w`."""
    check_subcenters_number(subcenters)
    if w.shape[0] % subcenters != 0:
        raise ValueError(f"w: expected a multiple of subcenters = {subcenters} as rows, got {w.shape[0]}")
    return w.shape[0] // subcenters


def check_optional(
    name: str, value: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype | None, device: torch.device
) -> None:
    """Raise TypeError or ValueError unless `value` is None or a tensor of this shape, dtype (None: any) and device."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor or None, got {type(value).__name__}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{name}: expected a tensor on {device}, got one on {value.device}")


def check_scale(scale: float, name: str = "scale") -> None:
    """Raise TypeError or ValueError unless `scale` is a number above 0 and at most `LARGEST_SCALE`.

    Args:
        name: what the caller calls it.
    """
    if not is_number(scale):
        raise TypeError(f"{name}: expected a number, got {scale!r}")
    if not 0 < scale <= LARGEST_SCALE:  # not isfinite: torch.compile makes a scale that changes symbolic
        raise ValueError(f"{name}: expected a number above 0, up to {LARGEST_SCALE:g}, got {scale}")


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
        raise ValueError(f"labels: expected shape ({rows},), got {tuple(labels.shape)}")
    return labels


def check_sample_weight(sample_weight: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError unless `sample_weight` is None or a tensor of this shape."""
    if sample_weight is None:
        return
    if not isinstance(sample_weight, Tensor):
        raise TypeError(f"sample_weight: expected a tensor or None, got {type(sample_weight).__name__}")
    if sample_weight.is_complex():
        raise TypeError(f"sample_weight: expected real numbers, got {sample_weight.dtype}")
    if sample_weight.shape != shape:
        raise ValueError(f"sample_weight: expected shape {shape}, got {tuple(sample_weight.shape)}")
