"""`Config`: everything that decides a training run, with defaults; `bbs train` reads it from YAML.

The docstring below a field is its line in the documentation's reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from bbs_kernels.margins.negative_map import NOT_FUSED, negatives_of
from bbs_kernels.validate import MAX_SUBCENTERS

from ..data import Augment
from .choices import MARGINS, RULES, Linking, Margin, Rule, Section, one_of, section_of

FilePath = Annotated[Path, Strict(False)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]
AugmentSection: Any = section_of(Augment)


class HeldOut(Section):
    """Where images are. A path alone means `{path: …}`."""

    path: FilePath
    """A folder with a sub-folder per identity, a `.csv` or `.parquet` manifest, or a RecordIO file (`.rec`)."""
    image_column: str = "path"
    """Of a manifest: the column with the path of an image."""
    identity_column: str = "identity"
    """Of a manifest: the column with the identity."""


class Source(HeldOut):
    """Where a basket's images are. A path alone means `{path: …}`."""

    proportion: Positive | None = None
    """Share of this basket in every batch, relative to the others'; for all baskets or for none (then by size)."""


def _path_alone(value: Any) -> Any:
    return {"path": value} if isinstance(value, (str, Path)) else value


Sources = dict[str, Annotated[Source, BeforeValidator(_path_alone)]]
HeldOuts = dict[str, Annotated[HeldOut, BeforeValidator(_path_alone)]]


class ImageSection(Section):
    """What an image is for the backbone."""

    size: Count | Annotated[tuple[Count, Count], Strict(False)] = 112
    """Pixels: one number, or [height, width]."""
    channels: Literal[1, 3] = 3
    """3: RGB, 1: grey."""

    def build(self) -> Any:
        """The `bs.data.ImageFormat`."""
        from ..data import ImageFormat

        return ImageFormat(self.size, self.channels)

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class BackboneSection(Section):
    """The network: images to embeddings."""

    factory: Annotated[str, Field(pattern=r"^(timm:\S+|[\w.]+:\w+)$")] = (
        "basket_softmax.training.backbones:iresnet50"
    )
    """`module:callable`, imported and called with `embedding_size`, with `channels` and `image_size` if it takes
    them, and with `args`; or `timm:NAME`."""
    embedding_size: Count = 512
    """Width of an embedding."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the factory."""


class LossSection(Section):
    """The head: see the page of the loss."""

    margin: Margin = MARGINS["arcface"]()
    """As `name` one of `arcface`, `cosface`, `sphereface`, `combined`, `adaface`, `magface`, `curricularface`,
    `asoftmax` and `interclass_filter`, with the arguments of that class."""
    mining: Rule = RULES["topk"]()
    """As `name` one of `topk`, `below`, `own` and `all`, with the arguments of that class; a `guard` is `absolute`,
    `relative` or `ema` likewise."""
    scale: Positive = 64.0
    """s, the factor of the cosines."""
    subcenters: Annotated[int, Field(ge=1, le=MAX_SUBCENTERS)] = 1
    """Centres of a class: the nearest one counts, so that wrong images may gather at another."""
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the classes that a step uses (Partial FC); below 1 see `sparse_grad`."""
    sparse_grad: bool = True
    """With `sample_rate` below 1 and without a fused head. true: the gradient of the centres has only the rows of the
    sample, which plain SGD takes, and `clip` too. false: a dense gradient, 0 outside the sample, for momentum, weight
    decay and AdamW, which then move all centres and need the memory of all."""
    aliases: FilePath | None = None
    """CSV with the columns basket, identity, alias: rows with one alias are one person."""
    linking: Linking | None = None
    """Link classes of different baskets to identities while training, see `bs.IdentityLinker`; `{}` with its defaults,
    null: not at all."""


class SgdHead(Section):
    """What differs for the class centres; null: as for the backbone."""

    fused: bool = False
    """Update the centres inside the backward pass, which saves their gradient; CPU only, not with fp16."""
    lr: Positive | None = None
    """Of the centres."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of the centres."""
    weight_decay: NotNegative | None = None
    """Of the centres."""


class AdamWHead(Section):
    """What differs for the class centres; null: as for the backbone."""

    lr: Positive | None = None
    """Of the centres."""
    weight_decay: NotNegative | None = None
    """Of the centres."""


class Sgd(Section):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    """Which optimiser."""
    lr: Positive = 0.1
    """Learning rate at its peak."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the last step in the next."""
    weight_decay: NotNegative = 5e-4
    """Added to the gradient, times the weight."""
    decay_all: bool = False
    """Weight decay on biases and on scales of normalisations too."""
    head: SgdHead = SgdHead()


class AdamW(Section):
    """AdamW, with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    """Which optimiser."""
    lr: Positive = 1e-3
    """Learning rate at its peak."""
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Strict(False)
    ] = (
        0.9,
        0.999,
    )
    """Of the running means of the gradient and of its square."""
    weight_decay: NotNegative = 0.05
    """Decoupled from the gradient, times the learning rate."""
    decay_all: bool = False
    """Weight decay on biases and on scales of normalisations too."""
    head: AdamWHead = AdamWHead()


class Schedule(Section):
    """Learning rate over the steps: linear warm-up, then a cosine."""

    warmup_epochs: NotNegative = 1.0
    """May be a fraction of an epoch."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Where the cosine ends, as a fraction of the peak; 1: constant after the warm-up."""


class Validation(Section):
    """Recognition of identities that are not trained. Give `fraction` or `baskets`, or `pairs`, or both."""

    fraction: Rate | None = None
    """Of each training basket's identities, at least two, drawn by `seed` and left out of training."""
    baskets: Annotated[HeldOuts, Field(min_length=1)] | None = None
    """Held-out baskets; each is measured by itself."""
    pairs: Annotated[dict[str, FilePath], Field(min_length=1)] | None = None
    """Name of each of insightface's pair files (`.bin`), such as LFW's, and where it is: accuracy in ten folds."""
    every_epochs: Count = 1
    """The last epoch is always measured."""
    fars: Annotated[tuple[Rate, ...], Strict(False), Field(min_length=1)] = (1e-3, 1e-4)
    """False acceptance rates at which the true acceptance rate is reported."""
    max_images: Annotated[int, Field(ge=4)] = 4000
    """Of each basket, whole identities in an order drawn by `seed`: all pairs are compared."""

    @model_validator(mode="after")
    def _something_to_measure(self) -> Validation:
        chosen = (self.fraction is not None) + (self.baskets is not None)
        if chosen == 2 or (chosen == 0 and self.pairs is None):
            got = [name for name in ("fraction", "baskets", "pairs") if getattr(self, name) is not None]
            raise ValueError(
                "expected either fraction or baskets, with pairs or without, or pairs alone, got "
                + (" and ".join(got) or "none of them")
            )
        return self


class Logs(Section):
    """metrics.csv, validation.csv, overlaps.csv and TensorBoard."""

    every_steps: Count = 10
    """Steps per row of metrics.csv."""
    overlap_cosine: Annotated[float, Field(gt=-1, lt=1)] | None = 0.5
    """After every epoch, classes of different baskets that are each other's nearest with at least this cosine of their
    centres are counted in overlaps.csv: they may be one identity. All pairs are compared; null: not at all."""
    tensorboard: bool = True
    """Also write TensorBoard's files."""


class Checkpoints(Section):
    """Checkpoints are written after every epoch, and more often if wanted."""

    every_steps: Count | None = None
    """null: after epochs only."""
    keep: Count = 2
    """The last so many stay."""


class Parallel(Section):
    """Only under torchrun."""

    shard: Literal["basket", "contiguous"] = "basket"
    """How the classes are spread over the ranks."""


class Config(Section):
    """A training run. Paths in a file are relative to that file's folder."""

    baskets: Annotated[Sources, Field(min_length=1)]
    """Name of each dataset, and where it is."""
    output: FilePath
    """Folder for checkpoints, logs and the resolved config."""
    image: ImageSection = ImageSection()
    augment: AugmentSection = AugmentSection()
    backbone: BackboneSection = BackboneSection()
    loss: LossSection = LossSection()
    optimizer: one_of({"sgd": Sgd, "adamw": AdamW}, "sgd") = Sgd()  # type: ignore[valid-type]
    schedule: Schedule = Schedule()
    epochs: Count = 20
    """As many steps as all images fill batches; with proportions a basket may be seen more or less often."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Rows of a step, over all ranks together."""
    amp: Literal["bf16", "fp16"] | None = None
    """Autocast of backbone and head; fp16 with a GradScaler. null: fp32."""
    clip: Positive | None = None
    """Largest norm of the gradient, over backbone and head (over the backbone with a fused head)."""
    validation: Validation | None = None
    """null: no identity is held out."""
    log: Logs = Logs()
    checkpoint: Checkpoints = Checkpoints()
    parallel: Parallel = Parallel()
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """`cpu`, `cuda` or `cuda:N`; under torchrun `cuda` is the GPU of the local rank."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that read images, per rank; the images do not depend on it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of weights, order, augmentation and the held-out identities."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        given = [name for name, source in self.baskets.items() if source.proportion is not None]
        if given and len(given) < len(self.baskets):
            lacking = next(name for name in self.baskets if name not in given)
            raise ValueError(
                f"baskets.{lacking}.proportion: expected a number, since {given[0]} has one, got null"
            )
        head = self.optimizer.head
        fused = getattr(head, "fused", False)
        if fused and self.amp == "fp16":
            raise ValueError("amp: expected bf16 or null with optimizer.head.fused: true, got fp16")
        if fused and self.device != "cpu":
            raise ValueError(f"device: expected cpu with optimizer.head.fused: true, got {self.device}")
        margin = self.loss.margin
        if (fused or self.loss.subcenters > 1) and negatives_of(margin.build()) is not None:
            other = "optimizer.head.fused is true" if fused else f"loss.subcenters is {self.loss.subcenters}"
            raise ValueError(f"{other} with loss.margin: {margin.name}, {NOT_FUSED}")
        sampled = self.loss.sample_rate < 1
        if not self.loss.sparse_grad and (fused or not sampled):
            other = "optimizer.head.fused: true" if fused else f"loss.sample_rate: {self.loss.sample_rate:g}"
            raise ValueError(
                f"loss.sparse_grad: expected true with {other}, where it has no effect, got false"
            )
        if sampled and self.loss.sparse_grad and not fused and not self._plain_sgd():
            raise ValueError(
                "optimizer.head: expected fused: true, or sgd with momentum: 0 and weight_decay: 0 for the head, with "
                f"loss.sample_rate: {self.loss.sample_rate:g}, whose gradient is sparse, got {self._head_steps()}; "
                "loss.sparse_grad: false makes it dense, for every optimiser"
            )
        return self

    def _plain_sgd(self) -> bool:
        return isinstance(self.optimizer, Sgd) and not any(self._momentum_and_decay(self.optimizer))

    def _head_steps(self) -> str:
        if not isinstance(self.optimizer, Sgd):
            return str(self.optimizer.name)
        momentum, decay = self._momentum_and_decay(self.optimizer)
        return f"sgd with momentum: {momentum:g} and weight_decay: {decay:g}"

    @staticmethod
    def _momentum_and_decay(sgd: Sgd) -> tuple[float, float]:
        """Return momentum and weight decay of the class centres."""
        head = sgd.head
        return (
            sgd.momentum if head.momentum is None else head.momentum,
            sgd.weight_decay if head.weight_decay is None else head.weight_decay,
        )
