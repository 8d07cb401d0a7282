"""PartialFC_V2 (An et al. 2022, arXiv 2203.15565) with insightface's signature, in one process or over ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bbs_kernels.class_parallel import draw_shard
from bbs_kernels.functional import reduce_rows
from bbs_kernels.transforms import refuse_transforms
from bbs_kernels.validate import check_bool, check_is_tensor, positive_int

from ...baskets import Baskets
from ...layout import Layout, layout_of, load_rows, note_layout
from ...losses.arguments import check_sample_rate
from ...losses.placement import NOT_IN_DDP, refuse_fsdp, refuse_wrappers
from ...losses.sampled_gradient import DenseGradient
from ...losses.sampling import sample_classes
from .._head import check_device, row_losses
from .margins import IGNORED, MarginLoss, flat_labels, truncated
from .ranks import ClassParallel, default_group, global_losses

ADVICE = (
    "each rank loads the file that it wrote; basket_softmax.checkpoint.load_insightface takes the files of all ranks "
    "into a BasketSoftmaxLoss at any number of ranks"
)


class PartialFC_V2(nn.Module):
    """Class centres and the margin softmax over them.

    Where torch.distributed is initialised with several ranks when this is made, each rank owns the classes
    `class_start` ... `class_start + num_local - 1`, as in insightface, and must call it with its own rows; the loss
    is the mean over the rows of all ranks. Gradients are insightface's: that of the embeddings is multiplied by the
    number of ranks, since the backbone is in DistributedDataParallel, which divides by it; that of `weight` is
    complete and must not be reduced.

    state_dict: `weight` [num_local, D], as a rank of insightface has it: files go both ways between the two at the
    same number of ranks, and `basket_softmax.checkpoint.load_insightface` reads them at any. The metadata says whose
    rows they are: `load_state_dict` refuses those of another rank, number of ranks or classes. Insightface's files
    say nothing of that, so give each rank its own.

    Args:
        margin_loss: `CombinedMarginLoss`, `ArcFace` or `CosFace` of this package; its parameters are read at
            each step.
        embedding_size, num_classes: D and C, both > 0.
        sample_rate: (0, 1]: below 1 each step takes the classes of the batch and as many others, drawn
            uniformly, as make up this share. The gradient of `weight` is dense, as insightface's, so that any
            optimiser works; `BasketSoftmaxLoss(sample_rate=...)` with `FusedSGD` has no such gradient.
        fp16: False: the arithmetic of the weight's dtype (fp32), whatever autocast says. True: embeddings are
            normalised in fp32, then both operands are rounded to fp16, with fp32 accumulation; loss, weight
            and its gradient stay fp32. As insightface's flag.
        process_group: whose ranks share the classes; None, as in insightface: the default group, if there is one.

    Raises:
        TypeError, ValueError: an argument is not of these.
        RuntimeError: it was made before `init_process_group`, or is wrapped in DistributedDataParallel or FSDP.

    Different from insightface: no process group is needed; the label tensor is not squeezed in place; the
    batch size may change between steps and differ between ranks; ranks that are seeded alike share the centres
    that one process draws (there each rank draws the same ones, so that classes begin as copies of each other);
    rows labelled -1 take no part, in the mean neither (there each of them adds log(1e30) = 69.08 and pushes all
    centres); a row's loss is not capped at 69.08; cosines are not clamped, so a gradient passes where rounding
    puts one beyond +-1.
    """

    _version = 2

    def __init__(
        self,
        margin_loss: MarginLoss,
        embedding_size: int,
        num_classes: int,
        sample_rate: float = 1.0,
        fp16: bool = False,
        *,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(margin_loss, MarginLoss):
            raise TypeError(
                "PartialFC_V2: margin_loss: expected CombinedMarginLoss, ArcFace or CosFace of "
                f"basket_softmax.compat.insightface, got {margin_loss!r}; for a margin of your own use "
                "BasketSoftmaxLoss(margin=...), a function of the target cosine"
            )
        num_classes = positive_int("PartialFC_V2: num_classes", num_classes)
        embedding_size = positive_int("PartialFC_V2: embedding_size", embedding_size)
        sample_rate = check_sample_rate(sample_rate, "PartialFC_V2: sample_rate")
        fp16 = check_bool("PartialFC_V2: fp16", fp16)
        group = default_group() if process_group is None else process_group
        self._parallel = None if group is None else ClassParallel(num_classes, group)
        self.rank, self.world_size = 0, 1
        self.num_local, self.class_start = num_classes, 0
        self._classes = Baskets([num_classes])
        if self._parallel is not None:
            self.rank, self.world_size = self._parallel.ranks.rank, self._parallel.ranks.world
            ((self.class_start, stop),) = self._parallel.shard.sharding.ranges(self.rank)
            self.num_local = stop - self.class_start
        self.embedding_size = embedding_size
        self.sample_rate = float(sample_rate)
        self.fp16 = fp16
        self.num_sample = int(self.sample_rate * self.num_local)
        self.margin_softmax = margin_loss
        self.weight = nn.Parameter(torch.empty(self.num_local, embedding_size))
        if self._parallel is None:
            nn.init.normal_(self.weight, 0, 0.01)
        else:
            draw_shard(self.weight, self._parallel.shard, std=0.01)

    def forward(self, local_embeddings: Tensor, local_labels: Tensor) -> Tensor:
        """The mean loss over the rows of all ranks that are not ignored, a scalar, the same on every rank; 0,
        attached to the graph, without any.

        Args:
            local_embeddings: [B, D], floating-point; B may be 0 where other ranks have rows.
            local_labels: [B] or [B, 1] class indices in [0, C), of all ranks' classes; -1 is ignored. Any dtype, as
                in insightface, which takes `local_labels.long()`.

        Raises:
            TypeError, ValueError: shapes, dtypes or devices that do not fit, or (on the CPU) labels that are not
                finite; over several ranks every rank raises what is wrong on one.
            RuntimeError: a label out of range.
        """
        self._check_place()
        try:
            labels = self._checked_labels(local_embeddings, local_labels)
        except (TypeError, ValueError) as problem:
            if self._parallel is not None:  # the other ranks would wait for this one for ever
                device = self.weight.device
                self._parallel.ranks.row_counts(0, False, device, problem, common=self._common())
            raise
        # The flag decides the arithmetic, not the surrounding autocast, as in insightface.
        with torch.autocast(local_embeddings.device.type, enabled=False):
            x = local_embeddings.to(self.weight.dtype)
            if self.fp16:
                # Normalised first: fp16 would overflow on large embeddings and underflow in their gradients.
                # Ignored rows are cut out, or a NaN there would come back through the normalisation.
                x = F.normalize(torch.where((labels != IGNORED)[:, None], x, 0.0)).half()
            # A sampled gradient is sparse; insightface's users expect a dense one.
            weight = self.weight if self.sample_rate == 1.0 else DenseGradient.apply(self.weight)
            options: dict[str, Any] = {
                "margin": self.margin_softmax.target_margin(), "scale": self.margin_softmax.checked_scale(),
                "ignore_index": IGNORED,
            }  # fmt: skip
            if self._parallel is None:
                index = None if self.sample_rate == 1.0 else self._sample(labels)
                losses, _ = row_losses(x, weight, labels, class_index=index, **options)
                return reduce_rows(losses, labels != IGNORED)
            sample = None if self.sample_rate == 1.0 else self._sample
            options |= {"sample": sample, "common": self._common()}
            return reduce_rows(*global_losses(x, weight, labels, self._parallel, **options))

    def _common(self) -> dict[str, Any]:
        """Return what every rank must have alike."""
        return {
            "num_classes": self._classes.num_classes,
            "embedding_size": self.embedding_size,
            "sample_rate": self.sample_rate,
            "fp16": self.fp16,
            "weight": self.weight.dtype,
            "training": self.training,
            "margin_loss": (self.margin_softmax.target_margin(), float(self.margin_softmax.s)),
        }

    def _checked_labels(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`labels` as int64 [B] on the device of the embeddings, both arguments checked."""
        check_is_tensor("PartialFC_V2: embeddings", embeddings)
        if embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_size:
            raise ValueError(
                f"PartialFC_V2: embeddings: expected [B, {self.embedding_size}], got {list(embeddings.shape)}"
            )
        check_device("PartialFC_V2", "weight", self.weight, embeddings)
        # Before autograd.Function meets them.
        refuse_transforms(embeddings=embeddings, weight=self.weight)
        labels = flat_labels(truncated(labels, "PartialFC_V2: labels"), len(embeddings), "PartialFC_V2")
        return labels.to(embeddings.device)

    def _sample(self, labels: Tensor) -> Tensor:
        return sample_classes(labels, self.num_local, self.sample_rate, IGNORED)

    def extra_repr(self) -> str:
        return (
            f"num_local={self.num_local}, embedding_size={self.embedding_size}, "
            f"sample_rate={self.sample_rate}, fp16={self.fp16}, rank {self.rank} of {self.world_size}"
        )

    def _layout(self) -> Layout:
        return layout_of(self._classes, self._parallel, "even")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        note_layout(destination, prefix, self._layout())

    def _load_from_state_dict(self, *arguments: Any) -> None:
        load_rows(self, super()._load_from_state_dict, arguments, self._layout(), advice=ADVICE)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and getattr(self, "_parallel", None) is not None:
            refuse_fsdp(value)
        super().__setattr__(name, value)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> set[str]:
        # DDP asks every module that it wraps for this: the place to refuse before it overwrites the shards.
        if self._parallel is None:
            raise AttributeError("_ddp_params_and_buffers_to_ignore")
        raise RuntimeError(NOT_IN_DDP)

    def _check_place(self) -> None:
        if self._parallel is not None:
            refuse_wrappers(self, self._parallel.shard)
        elif default_group() is not None:
            raise RuntimeError(
                "PartialFC_V2 was made before torch.distributed.init_process_group and holds all classes: make it after"
            )
