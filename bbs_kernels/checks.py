"""`check()`: errors that a device found without stopping the step that found them."""

from __future__ import annotations

from torch import Tensor

from ._load import OPS

NO_LABEL = 2**63 - 1  # BadLabel::none of csrc/cuda/params.h


def check() -> None:
    """Raise the pending error of an asynchronous device, if there is one.

    On the CPU an out-of-range label raises in the call that received it, so there is never anything
    pending. On CUDA the loss of such a row is NaN, and the next call raises; this function waits
    for every device that a loss has run on and raises now.

    Raises:
        RuntimeError: a label was out of range in an earlier step; the message names label and range.
    """
    raise_label(OPS.take_bad_label())


def raise_label(found: Tensor) -> None:
    """Raise RuntimeError for a label that a device found out of range: [2] int64, label or NO_LABEL, and classes."""
    label, classes = found.tolist()
    if label != NO_LABEL:
        raise RuntimeError(
            f"labels of an earlier call: {label} is out of range: allowed are 0 to {classes - 1} and ignore_index; "
            "the loss of its row was NaN"
        )
