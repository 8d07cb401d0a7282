"""`BasketSoftmaxLoss`: class centres of several datasets and the margin softmax over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bbs_kernels import ArcFace, TopK
from bbs_kernels import functional as core
from bbs_kernels.margins.call import takes_context
from bbs_kernels.margins.negative_map import NOT_FUSED, negatives_of
from bbs_kernels.normalize import ZERO_NORM
from bbs_kernels.ops.call import DEFAULT_WORKSPACE_BYTES
from bbs_kernels.ops.prepare import DEFAULT_STASH_BYTES
from bbs_kernels.rules import Rule, check_listed, check_rule, ema_guard
from bbs_kernels.sharding import KINDS
from bbs_kernels.validate import (
    check_bytes,
    check_is_tensor,
    check_labels,
    check_sample_weight,
    check_scale,
)

from ..baskets import Baskets
from ..functional import row_results
from .arguments import check_ignore_index, check_sample_rate, check_sparse_grad
from .centres import ClassCentres
from .graph_numbers import graph_numbers
from .parallel import checked, parallel_loss
from .placement import ClassParallel, refuse_fsdp, tensor_as_text
from .protocols import FirstCentres, FusedStep
from .sampled_gradient import refuse_sparse_in_fsdp, weight_of_sample
from .sampling import sample_classes
from .statistics import LastStep, summarise


class BasketSoftmaxLoss(ClassCentres):
    """Margin softmax for training on several datasets whose identities may overlap.

    Each row competes with all other classes of its own basket and with those that `mining` admits of the
    other baskets. With one basket it is plain ArcFace or CosFace.

    Args:
        baskets: {"webface": 10572, "glint": 360232}, [10572, 360232] or a `Baskets`.
        embedding_size: D.
        margin: `ArcFace`, `CosFace`, `CombinedMargin`, `SphereFace`, `AdaFace`, `MagFace`, `CurricularFace`,
            `ASoftmax`, `InterclassFilter`, or any callable psi = margin(cos_t) or margin(cos_t, ctx). May be assigned
            at any time, for a margin ramp.
        scale: s, above 0 and at most 1e6; may be assigned at any time.
        mining: `TopK(k=64, skip=1)` (default), `All()`, `Own()` or `Below(guard)`; may be assigned.
        reduction: "mean", "sum" or "none".
        ignore_index: label of rows that take no part; no global class, so below 0 or at least C.
        aliases: [C] int64; classes with the same non-negative alias are known to be one identity; see `set_aliases`.
        sample_rate: Partial FC (An et al. 2022): in training, the classes of the batch and as many others,
            drawn uniformly, as make up this share of all, int(rate * C) in number; (0, 1]. Below 1 the gradient of
            `weight` is a sparse tensor, which `clip_grad_norm_`, DDP, FSDP and most optimisers refuse: use `FusedSGD`,
            which has momentum and weight decay, or `sparse_grad=False`; `torch.optim.SGD` without either and
            `torch.optim.SparseAdam` take it as it is.
        stash_bytes: CPU only: cosines kept from forward to backward, at most this many bytes; results do not
            depend on it.
        workspace_bytes: CUDA only: how much a backward pass holds at a time beside its gradients, see
            `bbs_kernels.functional.cos_lse`.
        process_group: the classes are spread over its ranks (a `ProcessGroup`, or a `DeviceMesh` of one dimension):
            `weight` is this rank's shard, the loss that of the batches of all ranks. None: all classes are here.
        shard: "basket", a slice of every basket per rank, so that work stays even whatever a batch holds, or
            "contiguous", a slice of all classes.
        grad_average: multiply the embeddings' gradients by the number of ranks, since DDP and FSDP divide by it;
            False: the plain gradient. `weight` has the gradient of the global mean either way.
        subcenters: r, 1 to 16: every class has r centres, adjacent rows of `weight`, and the cosine with a class is
            that with the nearest. The images of an identity that fall into groups, or are noisy, then need not lie
            near one centre (Deng et al., ECCV 2020, who take 3).
        sparse_grad: of a `sample_rate` below 1. False: the gradient of `weight` is dense, 0 outside the sample, as
            insightface's; momentum and weight decay then move all classes. True: it is sparse, of a class-parallel head
            too, and `clip_grad_norm_` ends inside torch: "Could not run 'aten::linalg_vector_norm' with arguments from
            the 'SparseCPU' backend"; to clip, take False. None (default): sparse, with a warning in the first step,
            unless a `FusedSGD` trains the head.
        equal_batches: a promise that every rank brings equally many rows in every step; saves the one host
            synchronisation that ragged batches need.
        device, dtype: of `weight`; dtype fp32 (default, whatever torch's default dtype is) or fp64.

    Attributes:
        weight: [C*subcenters, D] class centres, initialised N(0, 0.01); this rank's under a process group. The
            state_dict holds `weight`, and `ema` with an `Ema` guard.
        baskets: the `Baskets`.

    Raises:
        TypeError, ValueError: an argument that is not of these; the message says what was expected.

    Source: Meng et al., "Basket-based Softmax", arXiv 2201.09308. The default rule is this library's own. Sub-centres:
    Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", ECCV 2020.
    """

    _per_basket = ("ema",)

    ema: Tensor
    _numbers: Tensor  # what a compiled graph reads: see `graph_numbers`
    told_of_sparse = False  # the warning about a sparse gradient has been given

    def __init__(
        self,
        baskets: Mapping[str, int] | Iterable[int] | Baskets,
        embedding_size: int,
        margin: Callable[..., Any] | None = None,
        scale: float = 64.0,
        mining: Rule | None = None,
        reduction: str = "mean",
        ignore_index: int = -1,
        aliases: Tensor | None = None,
        sample_rate: float = 1.0,
        stash_bytes: int = DEFAULT_STASH_BYTES,
        workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
        process_group: Any = None,
        shard: str = "basket",
        grad_average: bool = True,
        equal_batches: bool = False,
        subcenters: int = 1,
        sparse_grad: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        baskets = Baskets(baskets)
        if shard not in KINDS:
            raise ValueError(f"shard: expected {' or '.join(map(repr, KINDS))}, got {shard!r}")
        placement = None
        if process_group is not None:
            placement = ClassParallel(baskets, process_group, shard, grad_average, equal_batches)
        super().__init__(baskets, embedding_size, subcenters, placement, device, dtype)
        self.margin = ArcFace(0.5) if margin is None else margin
        self.scale = scale
        self.mining = TopK() if mining is None else mining
        self.reduction = core.check_reduction(reduction)
        self.ignore_index = check_ignore_index(ignore_index, self.baskets)
        self.sample_rate = check_sample_rate(sample_rate)
        self.sparse_grad = check_sparse_grad(sparse_grad)
        self.stash_bytes = check_bytes("stash_bytes", stash_bytes)
        self.workspace_bytes = check_bytes("workspace_bytes", workspace_bytes)
        self.register_buffer("aliases", self._checked_aliases(aliases), persistent=False)
        self._last: LastStep | None = None
        self.fused_step: FusedStep | None = None
        self.draw_centres()

    def reset_parameters(self) -> None:
        """Draw `weight` from N(0, 0.01); running means of an `Ema` guard start over, and so does a margin that has
        `reset_parameters` (`AdaFace`, `CurricularFace`).

        What `to_empty()` leaves undefined is then as in a new head, but for aliases: give them with `set_aliases`.
        Under a process group seed all ranks alike: the shards are then those of what one process draws on the CPU.
        """
        self.draw_centres()
        reset = getattr(self.margin, "reset_parameters", None)
        if isinstance(self.margin, nn.Module) and reset is not None:
            reset()

    def draw_centres(self) -> None:
        """Draw `weight`, and let running means of an `Ema` guard start over."""
        super().draw_centres()
        if "ema" in self._buffers:
            self.ema.fill_(math.inf)

    @property
    def mining(self) -> Rule:
        """The rule that admits negatives from other baskets."""
        return self._mining

    @mining.setter
    def mining(self, rule: Rule) -> None:
        check_listed(check_rule(rule), self.baskets.sizes)
        if self.placement is not None:
            self.placement.check_listed(rule)
        self._mining = rule
        if ema_guard(rule) is None:
            self._buffers.pop("ema", None)  # or the state_dict would depend on rules used earlier
        elif "ema" not in self._buffers:
            means = torch.full(
                (len(self.baskets),), math.inf, dtype=self.weight.dtype, device=self.weight.device
            )
            self.register_buffer("ema", means)

    @property
    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """The `FusedSGD` that trains the centres, if there is one."""
        return cast("torch.optim.Optimizer | None", self.fused_step)

    @property
    def running_means(self) -> Tensor | None:
        """[K] of an `Ema` guard, None with other rules."""
        return self._buffers.get("ema")

    @property
    def scale(self) -> float:
        """s, the factor of the cosines."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        check_scale(scale)
        self._scale = float(scale)
        self._numbers = graph_numbers(self._scale, self.margin)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("mining", "scale"):  # nn.Module would register a parameter or a module instead
            object.__setattr__(self, name, value)
            return
        if name == "margin":
            with_context = takes_context(value)
            if negatives_of(value) is not None and self.placement is not None:
                raise ValueError(f"process_group came with the margin {value!r}, {NOT_FUSED}")
            self.margin_takes_context = with_context
            self._modules.pop("margin", None)  # nn.Module refuses a plain object where a module was
            if "_scale" in self.__dict__:
                self._numbers = graph_numbers(self._scale, value)
        if name == "weight" and getattr(self, "placement", None) is not None:
            refuse_fsdp(value)
        elif name == "weight":
            refuse_sparse_in_fsdp(self, value)
        super().__setattr__(name, value)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        basket: Tensor | int | str | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: [B, D], fp32, fp16 or bf16 (fp64 with an fp64 head); not normalised by the caller.
            labels: [B] global classes, any integer dtype; or classes that start at 0 in each basket, with `basket`.
                `ignore_index` marks rows that take no part.
            basket: [B] indices of baskets, any integer dtype, or one index or name for the batch; None: global labels.
            sample_weight: [B] weights of the rows.

        Returns:
            A scalar, or [B] with reduction="none"; fp32 (fp64 for fp64). Under a process group every rank calls it with
            its own rows and gets the same scalar, that of all rows; with "none" its own rows' losses.

        Raises:
            TypeError, ValueError, KeyError, RuntimeError: see `Baskets.to_global` and
                `bbs_kernels.functional.cos_lse`.
        """
        if self.placement is not None:
            value, self._last = parallel_loss(self, self.placement, embeddings, labels, basket, sample_weight)
            return self._hooked(value)
        self._check_averaged()
        labels = self.global_labels(embeddings, labels, basket, sample_weight)
        sampled = self._sampled(labels)
        in_graph = self.fused_step is None and torch.compiler.is_compiling()
        scale = self._numbers if in_graph else self._scale
        weight = self.weight if sampled is None else weight_of_sample(self)
        rows = row_results(
            embeddings, weight, labels, self.baskets.offsets, margin=self.margin,
            with_context=self.margin_takes_context, scale=scale, mining=self.mining, aliases=self.aliases,
            ignore_index=self.ignore_index, ema=self.running_means, training=self.training,
            class_index=sampled, subcenters=self.subcenters, stash_bytes=self.stash_bytes,
            workspace_bytes=self.workspace_bytes, kernels=core if self.fused_step is None else self.fused_step,
        )  # fmt: skip
        self._last = LastStep(self.mining, labels, *(t.detach() for t in rows))
        return self._hooked(
            core.reduce_rows(rows.losses, labels != self.ignore_index, sample_weight, self.reduction)
        )

    def global_labels(
        self,
        embeddings: Tensor,
        labels: Tensor,
        basket: Tensor | int | str | None,
        sample_weight: Tensor | None = None,
        to_global: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Return the checked labels of a call as global classes; `to_global`: in place of that of the baskets."""
        check_is_tensor("embeddings", embeddings)
        if embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_size:
            raise ValueError(
                f"embeddings: expected shape [B, {self.embedding_size}], got {tuple(embeddings.shape)}"
            )
        labels = check_labels(labels, embeddings.shape[0])
        check_sample_weight(sample_weight, tuple(labels.shape))
        if basket is None:
            return labels
        return (to_global or self.baskets.to_global)(labels, basket, ignore_index=self.ignore_index)

    def checked_rows(
        self, embeddings: Tensor, labels: Tensor, basket: Tensor | int | str | None
    ) -> tuple[Tensor, Tensor, Exception | None]:
        """Return embeddings, global labels, and what is wrong with them on this rank of a process group."""
        assert self.placement is not None
        return checked(self.placement, self, embeddings, labels, basket, for_loss=False)

    def _hooked(self, value: Tensor) -> Tensor:
        if self.fused_step is not None and value.requires_grad:
            value.register_hook(self.fused_step.refuse_scaled)
        return value

    def stats(self) -> dict[str, Tensor]:
        """What the last step did, as device tensors; nothing waits for the device until you read one.

        Returns:
            mean_loss, mean_target_cosine: scalars over the rows not ignored.
            With `TopK`: mined_share [K], the share of each basket's slots that rows of other baskets filled;
                mean_mined_cosine.
            With a guard: guard, its mean over the rows; with an `Ema` guard also ema [K].

        Raises:
            RuntimeError: there was no step yet.
        """
        if self._last is None:
            raise RuntimeError("stats() before the first forward: there is no step to report yet")
        return summarise(self._last, self.baskets, self.ignore_index, self.running_means)

    def add_basket(
        self,
        name: str,
        size: int,
        init: str | Tensor | FirstCentres = "random",
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Append a dataset to a running head; old centres and the optimiser's state stay as they are.

        Under a process group every rank calls it with the same arguments, between two steps. The shards become those
        of a new head: with shard="contiguous" rows move between ranks, optimiser state and all.

        Args:
            name: of the new basket, not used so far.
            size: its number of classes.
            init: "random" (N(0, 0.01)), the new centres [size*subcenters, D] (all of them on every rank), or, with
                one centre a class, a `ClassMeans`. Seed all ranks alike for "random".
            optimizer: the one that trains `weight`: its state (momentum, moments) is padded with zeros. A
                `FusedSGD` is known to the loss and need not be given.

        Raises:
            ValueError: the name is taken, `init` is something else, `mining` would list too many classes, or
                `ignore_index` would become a class.
            RuntimeError: FSDP holds the head, or another rank adds another basket. In DistributedDataParallel the next
                forward raises it: wrap again.
        """
        optimizer = self.own_optimizer if optimizer is None else optimizer
        grown = self._checked_growth(name, size, init, optimizer)
        self.grow(grown, init, optimizer)
        if "ema" in self._buffers:
            self.ema = torch.cat([self.ema, self.ema.new_full((1,), math.inf)])
        self._last = None

    def _checked_growth(
        self, name: str, size: int, init: Any, optimizer: torch.optim.Optimizer | None
    ) -> Baskets:
        """Return the baskets that `add_basket` makes; what is wrong on one rank is raised on all."""
        grown, problem = self.baskets, None
        try:
            if name in grown.names:
                raise ValueError(f"basket {name!r} exists already: {', '.join(map(repr, grown.names))}")
            grown = Baskets({**grown.as_dict(), name: size})
            grown.check_ignore_index(self.ignore_index)
            check_listed(self.mining, grown.sizes)
            self.check_first_centres(init, size)
            if not (optimizer is None or isinstance(optimizer, torch.optim.Optimizer)):
                raise TypeError(
                    f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}"
                )
        except (TypeError, ValueError) as error:
            if self.placement is None:
                raise
            problem = error
        if self.placement is not None:
            alike = {
                "baskets": grown.as_dict(), "init": tensor_as_text(init) if isinstance(init, Tensor) else str(init),
                "optimizer": None if optimizer is None else type(optimizer).__name__,
            }  # fmt: skip
            if isinstance(init, FirstCentres):
                alike["init"] = type(init).__name__
            self.placement.ranks.row_counts(0, False, self.weight.device, problem, common=alike)
            self.placement.grown(grown).check_listed(self.mining)
        return grown

    def logits(self, embeddings: Tensor, classes: slice | Tensor) -> Tensor:
        """Scaled cosines s * c_ij of chosen classes, without margin, for inspection.

        Args:
            embeddings: [B, D].
            classes: a slice or an int64 tensor of global classes; slice(None) asks for all of them, B x C. Under a
                process group or fully_shard every rank must ask for the same ones.

        Returns:
            [B, n], of the nearest sub-centres, fp32 (fp64 for fp64); 0 for an embedding or centre with a norm below
            1e-12.
        """
        check_is_tensor("embeddings", embeddings)
        dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        with torch.autocast(embeddings.device.type, enabled=False):
            x, w = embeddings.to(dtype), self.chosen_centres(classes, "logits").to(dtype)
            cosines = self.scale * _unit(x) @ _unit(w).t()
            return cosines if self.subcenters == 1 else cosines.unflatten(1, (-1, self.subcenters)).amax(2)

    def extra_repr(self) -> str:
        margin = "" if isinstance(self.margin, nn.Module) else f", margin={self.margin}"
        sampled = "" if self.sample_rate == 1.0 else f", sample_rate={self.sample_rate}"
        centres = "" if self.subcenters == 1 else f", subcenters={self.subcenters}"
        return (
            f"{self.baskets}, embedding_size={self.embedding_size}{margin}, scale={self.scale}, "
            f"mining={self.mining}, reduction={self.reduction!r}, ignore_index={self.ignore_index}{sampled}{centres}"
        )

    def _sampled(self, labels: Tensor) -> Tensor | None:
        if self.sample_rate == 1.0 or not self.training:
            return None
        return sample_classes(labels, self.num_classes, self.sample_rate, self.ignore_index)

    def __getstate__(self) -> dict[str, Any]:
        # Results of the last step are graph leftovers, and an optimiser belongs to its own checkpoint.
        return {**super().__getstate__(), "_last": None, "fused_step": None}


def _unit(v: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    return torch.where(norm < ZERO_NORM, 0.0, v / norm.clamp_min(ZERO_NORM))
