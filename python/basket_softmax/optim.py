"""`FusedSGD`: the head's optimiser inside the backward pass, so that no gradient of the centres ever exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bbs_kernels import functional as core
from bbs_kernels.fused_sgd import SgdSettings, cos_lse_with_sgd, margin_softmax_with_sgd
from bbs_kernels.ops.placement import on_device

from .losses import BasketSoftmaxLoss
from .losses.replicated import running_ddp, world_size

__all__ = ["FusedSGD"]

LARGEST_FACTOR = (
    1.0 + 1e-5
)  # means, weights and accumulation give up to 1, and rounding; a GradScaler gives more


class FusedSGD(torch.optim.Optimizer):
    """SGD with momentum and weight decay for a loss's `weight`, applied tile by tile during backward.

    The head's memory falls from three times W (centres, gradient, momentum) to two. The update is
    `torch.optim.SGD`'s, bit for bit on the same gradients. `step()` only closes the step: the update has
    happened in `backward()`, with the learning rate that stood in `param_groups` then. With `sample_rate` < 1
    only the sampled rows move; momentum and decay of the others are left alone.

    `weight.grad` stays None, so nothing else may need it: fp16 autocast, a loss multiplied by more than 1 (as a
    GradScaler does), hooks on `weight`, two backward passes in one step and torch.compile of the head are refused.
    So is a head without `process_group` on several ranks or inside DistributedDataParallel, which could not average it.
    Weights up to 1 are fine; where this loss shall count more than others, divide those. Gradient clipping sees the
    backbone's gradients only. Every pass through the loss counts as its backward, also a `torch.autograd.grad` for
    the embeddings alone.

    Args:
        loss: a `BasketSoftmaxLoss` or one of its kind, on the CPU.
        lr, momentum, dampening, weight_decay, nesterov: as for `torch.optim.SGD`.

    Raises:
        ValueError: a setting out of range, or a loss that has a fused optimiser already.
    """

    def __init__(
        self,
        loss: BasketSoftmaxLoss,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if not isinstance(loss, BasketSoftmaxLoss):
            raise TypeError(f"loss: expected a BasketSoftmaxLoss, got {type(loss).__name__}")
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:  # NaN too
                raise ValueError(f"{name}: expected a number from 0, got {value}")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening = 0")
        if loss.sharded_by_fsdp:
            raise RuntimeError(
                "FusedSGD moves all centres in backward, expected a head that FSDP does not hold, got one under "
                "fully_shard: give the head process_group=torch.distributed.group.WORLD and apply fully_shard to the "
                "backbone alone, or use torch.optim.SGD"
            )
        if loss.fused_step is not None:
            raise ValueError("loss: expected a head without a FusedSGD, got one that has one")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        self._closed = False
        super().__init__([loss.weight], defaults)
        self._closed = True
        self._updated = False
        loss.fused_step = self

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused after construction: only the loss's weight is updated in its backward pass."""
        if self._closed:
            raise RuntimeError(
                "FusedSGD trains the weight of its loss only: give other parameters to another optimizer"
            )
        super().add_param_group(param_group)

    @property
    def weight(self) -> Tensor:
        """The centres that this optimiser moves."""
        return self.param_groups[0]["params"][0]

    def cos_lse(
        self, x: Tensor, w: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`bbs_kernels.functional.cos_lse` whose backward also updates `w`."""
        step = self._step_of_whole_head(x, w)
        if step is None:
            return core.cos_lse(x, w, *args, **kwargs)
        return cos_lse_with_sgd(x, w, *args, step=step, **kwargs)

    def step_in_backward(self, x: Tensor, w: Tensor) -> Callable[[], SgdSettings] | None:
        """What backward calls right before it moves `w`; None when there will be no backward."""
        if not torch.is_grad_enabled() or not w.requires_grad:
            return None
        self._refuse_other_uses(x, w)
        return self._begin_update

    def _step_of_whole_head(self, x: Tensor, w: Tensor) -> Callable[[], SgdSettings] | None:
        """Return `step_in_backward` for a head without a process group; raise where ranks would have to average."""
        step = self.step_in_backward(x, w)
        if step is not None:
            refuse_replicas(w)
        return step

    def margin_softmax(
        self, x: Tensor, w: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`bbs_kernels.functional.margin_softmax` whose backward also updates `w`."""
        step = self._step_of_whole_head(x, w)
        if step is None:
            return core.margin_softmax(x, w, *args, **kwargs)
        return margin_softmax_with_sgd(x, w, *args, step=step, **kwargs)

    def refuse_scaled(self, gradient: Tensor) -> None:
        """A hook on the loss: a GradScaler's factor would become part of the update, and nothing could undo it."""
        factor = gradient.detach().abs()
        if not bool((factor <= LARGEST_FACTOR).all()):  # NaN too
            raise RuntimeError(
                f"FusedSGD: expected a loss multiplied by up to 1, got {float(factor.max()):g}, as by a GradScaler: it "
                "would apply that to the centres. Leave the GradScaler out (bfloat16 autocast "
                "needs none); to weigh this loss by more than other terms divide those, or use torch.optim.SGD here"
            )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Close the step.

        Args:
            closure: evaluated once, before the step is closed, as by `torch.optim.SGD`: it may run the backward pass.

        Returns:
            What `closure` returned; None without one.

        Raises:
            RuntimeError: no backward pass, here or before, has updated the weight since the last step.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        if not self._updated:
            raise RuntimeError(
                "step() without a backward pass since the last step: FusedSGD updates in backward"
            )
        self._updated = False
        return value

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "FusedSGD belongs to its loss and cannot be copied or pickled: make a new one for the copied loss and "
            "use state_dict() and load_state_dict()"
        )

    def _begin_update(self) -> SgdSettings:
        """Called by backward, right before the update: the settings of now, and the momentum buffer."""
        if self._updated:
            raise RuntimeError(
                "a second backward pass before step(): FusedSGD has no gradient to accumulate into; call step() "
                "after every backward pass, or use torch.optim.SGD"
            )
        group = self.param_groups[0]
        weight = self.weight
        state = self.state[weight]
        first = False
        if group["momentum"] != 0 and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
            first = True
        self._updated = True
        return SgdSettings(
            momentum_buffer=state.get("momentum_buffer") if group["momentum"] != 0 else None,
            first_step=first,
            lr=float(group["lr"]),
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
        )

    def _refuse_other_uses(self, x: Tensor, w: Tensor) -> None:
        if w is not self.weight:
            raise RuntimeError(
                "weight is not the parameter that this FusedSGD was made for (it was replaced, or functional_call "
                "stands in for it): make a new loss and a new FusedSGD"
            )
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "FusedSGD cannot be traced by torch.compile: compile the backbone, not the head"
            )
        device_type = x.device.type
        if on_device(x):
            raise RuntimeError(f"FusedSGD works on the CPU in this version, the embeddings are on {x.device}")
        if torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16:
            raise RuntimeError(
                "FusedSGD under fp16 autocast: a GradScaler would scale the update; use bfloat16 autocast, or "
                "torch.optim.SGD with the scaler"
            )
        if w._backward_hooks or w._post_accumulate_grad_hooks:
            raise RuntimeError(
                "weight has gradient hooks, which FusedSGD cannot serve: it has no gradient of weight"
            )


def refuse_replicas(w: Tensor) -> None:
    """Raise RuntimeError when other ranks hold the same centres `w`: a step in backward leaves nothing to average."""
    inside, ranks = running_ddp(w) is not None, world_size()
    if not inside and ranks == 1:
        return
    where = "inside DistributedDataParallel" if inside else f"on one of {ranks} ranks"
    raise RuntimeError(
        "FusedSGD moves the centres in backward, before anybody could average their gradient: expected a head with "
        f"process_group, or one process, got a head without process_group {where}. Give the head "
        "process_group=torch.distributed.group.WORLD and leave it outside of the wrapper, or use torch.optim.SGD with "
        "the head inside; a head that this rank alone trains: process_group=torch.distributed.new_subgroups(1)[0]"
    )
