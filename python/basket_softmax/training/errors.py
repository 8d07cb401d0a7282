"""What may go wrong in a run without being a defect of this library: the command line prints these as one message."""

from __future__ import annotations

from ..checkpoint import CheckpointError
from ..data.extras import MissingExtra
from .backbones import BackboneError
from .datasets import DataError
from .diverged import Diverged
from .ranks import DeviceError
from .reading import ConfigError
from .state import ResumeError

EXPECTED = (
    BackboneError, CheckpointError, ConfigError, DataError, DeviceError, Diverged, MissingExtra, OSError,
    ResumeError,
)  # fmt: skip
