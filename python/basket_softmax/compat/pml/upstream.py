"""Find pytorch-metric-learning's own classes, so that its `isinstance` checks hold for the drop-ins.

`DistributedLossWrapper` takes a `BaseMetricLossFunction` only. Where the package is installed, the classes here inherit
from its classes by name and override what they use of them, so numbers do not depend on whether it is installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from torch import nn

PACKAGE = "pytorch_metric_learning"


def upstream_class(module: str, name: str) -> Any:
    """Return `pytorch_metric_learning.<module>.<name>`, or None where the package is not installed."""
    try:
        return getattr(import_module(f"{PACKAGE}.{module}"), name)
    except ImportError:
        return None


def upstream_base(module: str, name: str) -> Any:
    """Return the same class for use as a base; `nn.Module` where the package is not installed."""
    return upstream_class(module, name) or nn.Module


def global_collect_stats() -> bool:
    """Return the package's global switch `COLLECT_STATS`; False where the package is not in use."""
    common = sys.modules.get(f"{PACKAGE}.utils.common_functions")
    return bool(common.COLLECT_STATS) if common is not None else False
