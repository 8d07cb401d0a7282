"""Appending rows to a parameter that is being trained: the same Parameter object, longer, state and all."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def grow_parameter(parameter: nn.Parameter, rows: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """parameter [C, D] becomes [C + n, D]; tensors of its shape in the optimiser's state get n rows of zeros.

    Args:
        parameter: changed in place, so that optimisers and modules that hold it stay valid; its gradient is dropped.
        rows: [n, D] new values.
        optimizer: may be None; must hold the parameter otherwise.

    Raises:
        ValueError: the optimiser does not train this parameter.
    """
    shape = parameter.shape
    if optimizer is not None:
        if not any(p is parameter for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer does not hold this loss's weight, allowed is the one that trains it")
        state = optimizer.state.get(parameter, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape:
                state[key] = torch.cat([value, value.new_zeros(rows.shape)])
    parameter.grad = None
    parameter.data = torch.cat([parameter.data, rows.to(parameter.dtype)])
