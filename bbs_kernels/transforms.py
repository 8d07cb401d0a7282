"""Which ways of taking derivatives the kernels have: backward passes, and no others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def refuse_transforms(**operands: Tensor) -> None:
    """Raise RuntimeError when an operand is in a derivative of torch.func, or has a tangent of forward-mode AD.

    The ops have no rule for either. Without this check some of torch's transforms would stop with an error about
    autograd.Function, and `torch.func.jvp` would give 0. `torch.func.vmap` alone is fine.
    """
    if torch.compiler.is_compiling():
        return
    for name, value in operands.items():
        if _in_grad_of_func(value) or unpack_dual(value).tangent is not None:
            raise RuntimeError(
                f"{name}: expected a tensor outside torch.func.grad, vjp, jvp, jacrev and forward-mode AD, got one "
                "inside: the kernels have derivatives for backward passes only; use loss.backward() or "
                "torch.autograd.grad, and for gradients per sample call them for one row at a time"
            )


def _in_grad_of_func(value: Tensor) -> bool:
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(value):
        if functorch.is_gradtrackingtensor(value):
            return True
        value = functorch.get_unwrapped(value)  # of vmap: what it maps may be in a derivative
    return False
