"""What has become of a head's centres: whether DistributedDataParallel or FSDP looks after them."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def is_inside_ddp(weight: Tensor) -> bool:
    """Whether a DistributedDataParallel whose forward pass is running reduces the gradient of `weight`."""
    wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
    return wrapper is not None and any(p is weight for p in getattr(wrapper, "_module_parameters", ()))


def is_sharded_by_fsdp(weight: Any) -> bool:
    """Whether `weight` is what fully_shard puts in the place of a parameter."""
    from torch.distributed.tensor import DTensor  # slow to import, and only distributed runs come here

    return isinstance(weight, DTensor)
