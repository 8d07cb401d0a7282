"""The error of this package."""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """A checkpoint is incomplete, damaged, or not of this head; the message names what differs."""
