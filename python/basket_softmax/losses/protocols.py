"""What the parts of a loss ask of each other, so that none of them imports the loss itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from bbs_kernels.ops.call import SgdSettings
from bbs_kernels.rules import Rule

from ..baskets import Baskets


class FusedStep(Protocol):
    """An optimiser that moves the centres in the backward pass: `basket_softmax.optim.FusedSGD`."""

    @property
    def weight(self) -> Tensor:
        """The centres that it moves."""

    def cos_lse(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`bbs_kernels.functional.cos_lse`, whose backward also moves the centres."""

    def margin_softmax(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`bbs_kernels.functional.margin_softmax` likewise."""

    def step_in_backward(self, x: Tensor, w: Tensor) -> Callable[[], SgdSettings] | None:
        """What backward calls right before it moves `w`; None when there will be no backward."""

    def refuse_scaled(self, gradient: Tensor) -> None:
        """A hook on the loss: raise where it was multiplied."""


@runtime_checkable
class FirstCentres(Protocol):
    """First centres of a new basket, as `ClassMeans` finds them."""

    size: int
    num_classes: int

    def rows(self, fallback: Tensor) -> Tensor:
        """The centres of this rank's classes, [rows, D]; `fallback`, of the same shape, where there are none."""


class HeldCentres(Protocol):
    """What has to be known of centres to see whether FSDP holds them."""

    @property
    def weight(self) -> Tensor: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def subcenters(self) -> int: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def sharded_by_fsdp(self) -> bool: ...


class LossSettings(Protocol):
    """What an engine reads of a `BasketSoftmaxLoss`; attributes are described there."""

    @property
    def weight(self) -> nn.Parameter: ...
    @property
    def baskets(self) -> Baskets: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def subcenters(self) -> int: ...
    @property
    def aliases(self) -> Tensor | None: ...
    @property
    def running_means(self) -> Tensor | None: ...
    @property
    def margin(self) -> Callable[..., Any]: ...
    @property
    def margin_takes_context(self) -> bool: ...
    @property
    def scale(self) -> float: ...
    @property
    def mining(self) -> Rule: ...
    @property
    def reduction(self) -> str: ...
    @property
    def ignore_index(self) -> int: ...
    @property
    def sample_rate(self) -> float: ...
    @property
    def sparse_grad(self) -> bool | None: ...
    @property
    def stash_bytes(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def training(self) -> bool: ...

    told_of_sparse: bool

    @property
    def fused_step(self) -> FusedStep | None: ...
    def global_labels(
        self,
        embeddings: Tensor,
        labels: Tensor,
        basket: Tensor | int | str | None,
        sample_weight: Tensor | None = None,
        to_global: Callable[..., Tensor] | None = None,
    ) -> Tensor: ...
