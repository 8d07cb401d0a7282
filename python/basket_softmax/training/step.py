"""One training step: forward under autocast, backward, clipping, optimisers; on one rank or on many."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..linking import IdentityLinker
from ..losses import BasketSoftmaxLoss
from .batches import Batch
from .config import Config
from .optimizers import Optimizers, clip_gradients, gradient_norm, warmup_steps
from .ranks import Ranks
from .schedule import learning_rate_factor

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Result(NamedTuple):
    """Of a step, on the device: the loss of all ranks' rows, the norm of the gradient before clipping; the rate."""

    loss: Tensor
    gradient_norm: Tensor
    learning_rate: float


class Trainer:
    """Backbone, head and their optimisers.

    Args:
        backbone, head: on the device already; the head with the ranks' process group.
        steps, steps_per_epoch: of the run, for the schedule.

    Attributes:
        backbone: the module itself, without DDP's wrapper.
        linker: the `IdentityLinker` of `loss.linking`, or None.
        scaler: a GradScaler, disabled without fp16.
    """

    def __init__(
        self,
        config: Config,
        backbone: nn.Module,
        head: BasketSoftmaxLoss,
        ranks: Ranks,
        steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.config, self.backbone, self.head, self.ranks = config, backbone, head, ranks
        self.steps = steps
        self.warmup = warmup_steps(config.schedule.warmup_epochs, steps_per_epoch)
        self.optimizers = Optimizers(config, backbone, head)
        linking = config.loss.linking
        self.linker: IdentityLinker | None = (
            None if linking is None else linking.build(loss=head, seed=config.seed)
        )
        self.scaler = _scaler(config, ranks)
        self._network: nn.Module = backbone
        if ranks.group is not None:
            devices = None if ranks.device.type == "cpu" else [ranks.device]
            self._network = DistributedDataParallel(backbone, device_ids=devices, process_group=ranks.group)

    def step(self, number: int, batch: Batch) -> Result:
        """Train on `batch` as step `number` of the run, from 0."""
        schedule, optimizers = self.config.schedule, self.optimizers
        rate = optimizers.set_rate(learning_rate_factor(number, self.steps, self.warmup, schedule.final))
        images, labels, baskets = (part.to(self.ranks.device, non_blocking=True) for part in batch)
        self._network.train()
        self.head.train()
        optimizers.main.zero_grad(set_to_none=True)
        with torch.autocast(
            self.ranks.device.type, DTYPES.get(self.config.amp or ""), self.config.amp is not None
        ):
            embeddings = self._network(images)
            if self.linker is None:
                loss = self.head(embeddings, labels, basket=baskets)
            else:
                loss = self.head(embeddings, self.linker(embeddings, labels, baskets))
        self.scaler.scale(loss).backward()
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizers.main)
        norm = self._norm()
        if self.config.clip is not None:
            clip_gradients(optimizers.trained, norm, self.config.clip)
        self.scaler.step(optimizers.main)
        self.scaler.update()
        if optimizers.fused is not None:
            optimizers.fused.step()
        return Result(loss.detach(), norm, rate)

    def _norm(self) -> Tensor:
        weight = self.head.weight
        replicated = [p for p in self.optimizers.trained if p is not weight]
        sharded = [p for p in self.optimizers.trained if p is weight]
        return gradient_norm(replicated, sharded, self.ranks.group)


def _scaler(config: Config, ranks: Ranks) -> Any:
    if ranks.group is None or config.amp != "fp16":
        return torch.amp.GradScaler(ranks.device.type, enabled=config.amp == "fp16")
    # An overflow in one rank's centres must skip the step on all ranks: this scaler asks the others.
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

    return ShardedGradScaler(ranks.device.type, process_group=ranks.group)
