"""Appending rows to a parameter that is being trained: the same Parameter object, longer, state and all."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def grow_parameter(parameter: nn.Parameter, rows: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """parameter [C, D] becomes [C + n, D]; the optimiser's state gets n rows of zeros.

    Args:
        parameter: changed in place, so that optimisers and modules that hold it stay valid; its gradient is dropped.
        rows: [n, D] new values.
        optimizer: may be None; must hold the parameter otherwise. Tensors of its state with C rows (momentum,
            moments, Adafactor's row variances) are padded, the rest (step counts) is kept.

    Raises:
        ValueError: the optimiser does not train this parameter.
    """
    classes = parameter.shape[0]
    if optimizer is not None:
        if not any(p is parameter for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer does not hold this loss's weight, allowed is the one that trains it")
        state = optimizer.state.get(parameter, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == classes:
                state[key] = torch.cat([value, value.new_zeros((len(rows), *value.shape[1:]))])
    grown = torch.cat([parameter.data, rows.to(parameter.dtype)])
    parameter.grad = None
    # A graph of an earlier step that is still alive keeps a gradient accumulator of the old shape, which the
    # parameter would use again. Passing through another dtype makes it forget that one.
    parameter.data = parameter.data.new_empty(0, dtype=torch.float16)
    parameter.data = grown
