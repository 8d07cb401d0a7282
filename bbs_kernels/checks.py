"""`check()`: errors that a device found without stopping the step that found them."""

from __future__ import annotations

import torch

from ._load import OPS


def check() -> None:
    """Raise the pending error of an asynchronous device, if there is one.

    On the CPU an out-of-range label raises in the call that received it, so there is never anything
    pending. A device backend registers the op `bbs_kernels::pending_error() -> str`, which returns the
    message and clears it; this function waits for the device and raises it.

    Raises:
        RuntimeError: a label was out of range in an earlier step; the message names label and range.
    """
    pending = getattr(OPS, "pending_error", None)
    if pending is None:
        return
    torch.cuda.synchronize()
    message = pending()
    if message:
        raise RuntimeError(message)
