"""Scale and angular margin: numbers, since the kernels return no gradient for them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def constant(owner: str, name: str, value: Any, instead: str) -> Any:
    """`value`, a tensor with one element as a float.

    Args:
        owner, name: of the argument, for messages.
        instead: what to do where a gradient is wanted, for the message.

    Raises:
        TypeError: a tensor that requires a gradient, which would never come.
        ValueError: a tensor of another size.
    """
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad:
        raise TypeError(
            f"{owner}: {name}: expected a number, got {type(value).__name__} that requires a gradient, which the "
            f"kernels do not compute; {instead}"
        )
    if value.numel() != 1:
        raise ValueError(f"{owner}: {name}: expected a number, got a tensor {list(value.shape)}; {instead}")
    return value.item()
