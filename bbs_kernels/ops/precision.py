"""How precisely torch multiplies fp32, read where torch's own matmul reads it.

`torch.get_float32_matmul_precision()` is the older interface: torch.compile cannot trace it, and it raises once
`torch.backends.cuda.matmul.fp32_precision` (recommended since torch 2.9) was assigned. The precision of the backend
answers for both interfaces and for the generic `torch.backends.fp32_precision`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .placement import on_device

EXACT = ("none", "ieee")  # "none": never set, which is exact


def allow_tf32(x: Tensor) -> bool:
    """Return whether products of `x` may be tf32, as torch's own matmul decides it; only those of fp32 on a device."""
    return on_device(x) and x.dtype == torch.float32 and _cuda_multiplies_tf32()


# A constant of what torch.compile traces. No graph goes stale: dynamo guards on the very same setting.
@torch.compiler.assume_constant_result
def _cuda_multiplies_tf32() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def cpu_lowers_fp32() -> bool:
    """Return whether a product of fp32 matrices on the CPU may be computed in bfloat16 or tf32."""
    precision: str = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]  # set at run time
    return precision not in EXACT
