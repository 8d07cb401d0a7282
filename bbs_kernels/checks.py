"""`check()`: errors that a device found without stopping the step that found them."""

from __future__ import annotations

from .ops.load import OPS


def check() -> None:
    """Raise the pending error of an asynchronous device, if there is one.

    On the CPU an out-of-range label raises in the call that received it, so there is never anything
    pending. On CUDA the loss of such a row is NaN, and the next call raises, which may be the backward of
    its own step; this function waits for every device that a loss has run on and raises now.

    Raises:
        RuntimeError: a label was out of range in an earlier step; the message names label and range.
    """
    OPS.check_labels()
