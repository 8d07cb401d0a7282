"""Appending rows to a parameter that is being trained: the same Parameter object, longer, state and all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bbs_kernels.resharding.growth import Growth


@torch.no_grad()
def resize_parameter(
    parameter: nn.Parameter, growth: Growth, rows: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    """The parameter gets the new classes' `rows`, the optimiser's state zeros for them.

    Args:
        parameter: changed in place, so that optimisers and modules that hold it stay valid; its gradient is dropped.
        rows: new values, as many as `growth.new` has.
        optimizer: may be None; must hold the parameter otherwise. Tensors of its state with a row per class (momentum,
            moments, Adafactor's row variances) are extended, the rest (step counts) is kept.

    Raises:
        ValueError: the optimiser does not train this parameter.
    """
    if optimizer is not None:
        if not any(p is parameter for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "optimizer: expected the one that trains this loss's weight, got one that does not hold it"
            )
        state = optimizer.state.get(parameter, {})
        names = sorted(
            key
            for key, value in state.items()
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == len(parameter)
        )
        growth.same_everywhere(names)
        for key in names:
            state[key] = growth.extend(state[key])
    grown = growth.extend(parameter.data)
    grown[growth.new] = rows.to(grown)
    parameter.grad = None
    # A graph of an earlier step that is still alive keeps a gradient accumulator of the old shape, which the
    # parameter would use again. Passing through another dtype makes it forget that one.
    parameter.data = parameter.data.new_empty(0, dtype=torch.float16)
    parameter.data = grown
