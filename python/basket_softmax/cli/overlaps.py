"""`bbs overlaps`: which identities of different datasets are one; `basket_softmax.overlaps` does it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import one_line
from .extras import need
from .words import count

if TYPE_CHECKING:
    from torch import Tensor

    from basket_softmax.overlaps import Overlaps
    from basket_softmax.training import Run

REPORT, PAGE, ALIASES = "overlaps.csv", "overlaps.html", "aliases.csv"
ORIGIN = "overlaps.json"  # which checkpoint the report is of
NEEDS = {"pydantic": "pydantic", "yaml": "pyyaml", "rich": "rich", "PIL": "pillow", "sklearn": "scikit-learn"}
PAIRS = ("mutual pair", "mutual pairs")
SURE = 0.9  # for the summary only


class _Probability(click.FloatRange):
    """0 to 1; NaN, which passes every comparison of click's, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range 0<=x<=1.", param, ctx)
        return number


PROBABILITY = _Probability(0, 1)


def _device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """A device that torch has; a usage error otherwise."""
    kind, _, number = value.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or value in ("cpu:", "cuda:"):
        raise click.BadParameter(f"{value!r} is not cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= gpus:
            raise click.BadParameter(f"{value!r}: torch sees {gpus} GPUs here")
    return value


@click.command(short_help="List identities of different datasets that are one, to accept or reject.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("overlaps"),
    show_default=True,
    help=f"Folder for {REPORT}, {PAGE} and {ALIASES}.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["prototypes", "centres"]),
    default="prototypes",
    show_default=True,
    help="prototypes: mean embeddings of all images. centres: the head's; fast, but confidences are too high.",
)
@click.option(
    "--min-confidence",
    type=PROBABILITY,
    default=0.5,
    show_default=True,
    help="Pairs below it are not listed.",
)
@click.option(
    "--page-pairs", type=click.IntRange(1), default=200, show_default=True, help="Pairs on the page."
)
@click.option(
    "--page-images", type=click.IntRange(1), default=4, show_default=True, help="Images of an identity on it."
)
@click.option(
    "--apply",
    "decisions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"CSV saved from the page: write {ALIASES} from it and search nothing.",
)
@click.option(
    "--accept-above", type=PROBABILITY, help=f"Also accept pairs with this confidence or more into {ALIASES}."
)
@click.option(
    "--device",
    callback=_device,
    default="cpu",
    show_default=True,
    help="Of the backbone: cpu, cuda or cuda:N.",
)
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images per step.")
@click.option(
    "--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that read images."
)
def overlaps(run: Path, output: Path, decisions: Path | None, device: str, **options: Any) -> None:
    """List pairs of identities of different datasets that the trained network in RUN finds to be one.

    RUN is the output folder of bbs train, or one of its checkpoints.

    \b
    bbs overlaps runs/first                              then open overlaps/overlaps.html
    bbs overlaps runs/first --apply decisions.csv        what you accepted there
    bbs overlaps runs/first --accept-above 0.95          what is sure enough
    bbs train run.yaml --set loss.aliases=overlaps/aliases.csv
    """
    if decisions is None:
        _check_listed(options["accept_above"], options["min_confidence"])
    need("bbs overlaps", "train", *NEEDS, packages=NEEDS)
    from basket_softmax.training import load_run
    from basket_softmax.training.errors import EXPECTED

    with one_line(*EXPECTED, ValueError):
        if (output / "config.yaml").exists():  # its overlaps.csv is the log that --resume goes on with
            raise click.BadParameter(
                f"{output} holds a run, whose {REPORT} would be lost", param_hint="--output"
            )
        loaded = load_run(run, device)
        if decisions is None and len(loaded.head.baskets) < 2:
            raise ValueError(
                f"{run} was trained on one basket, {loaded.head.baskets.names[0]!r}: overlaps are between baskets, "
                "so there is nothing to compare"
            )
        output.mkdir(parents=True, exist_ok=True)
        if decisions is None:
            _find(loaded, run, output, **options)
        else:
            _apply(loaded, output, decisions, options["accept_above"])


def _check_listed(above: float | None, least: float) -> None:
    if above is not None and above < least:
        raise click.UsageError(
            f"--accept-above: expected --min-confidence, {least:g}, or more, got {above:g}: others are not listed"
        )


def _find(
    run: Run,
    path: Path,
    output: Path,
    source: str,
    min_confidence: float,
    page_pairs: int,
    page_images: int,
    accept_above: float | None,
    batch_size: int,
    workers: int,
) -> None:
    """Search, then write the table, the page and, when pairs are accepted by confidence, the aliases."""
    from basket_softmax.overlaps import (
        ClassNames,
        NoConfidence,
        find_overlaps,
        write_page,
        write_report,
    )
    from basket_softmax.overlaps.origin import Origin, write_origin

    names, known = ClassNames(run.baskets), _known(run)
    if source == "prototypes":
        centres, each = _prototypes(run, batch_size, workers), 1
    else:
        centres, each = run.head.full_weight().cpu(), run.head.subcenters
    confident = True
    with _bar("comparing identities", len(centres) * (len(centres) - 1) // 2) as progress:
        try:
            found = find_overlaps(centres, run.head.baskets, subcenters=each, progress=progress)
        except NoConfidence as error:
            found, confident, why = error.overlaps, False, str(error)
    compared = f"{len(names):,} identities in {len(run.baskets)} baskets: {count(len(found.first), *PAIRS)}"
    if confident:
        listed = found.select((found.confidence >= min_confidence) & ~_same(found, known))
        sure = int((found.confidence >= SURE).sum())
        click.echo(
            f"{compared}, {sure:,} with confidence {SURE} or more; by their confidences about "
            f"{found.confidence.sum():,.0f} are one person"
        )
    else:
        listed = found.select(~_same(found, known))
        click.echo(compared)
        click.echo(f"note: {why}. The pairs are listed without a confidence", err=True)
    if source == "centres" and confident:
        click.echo(
            "confidences from centres are too high, see the documentation: look at the pairs, or use prototypes"
        )
    (output / ORIGIN).unlink(
        missing_ok=True
    )  # first, so that none ever stands beside a report of another run
    write_report(output / REPORT, listed, names)
    write_origin(
        output / ORIGIN, Origin(run.fingerprint, str(path.resolve()), run.step, source, min_confidence)
    )
    of_them = f"with confidence {min_confidence} or more" if confident else "without a confidence"
    click.echo(f"{output / REPORT}: {count(len(listed.first), 'pair', 'pairs')} {of_them}")
    undecided = listed if accept_above is None else listed.select(~(listed.confidence >= accept_above))
    shown = write_page(
        output / PAGE, undecided, run.baskets, max_pairs=page_pairs, images_per_class=page_images
    )
    megabytes = (output / PAGE).stat().st_size / 1e6
    click.echo(f"{output / PAGE}: {shown:,} of {len(undecided.first):,} pairs to decide, {megabytes:.1f} MB")
    if accept_above is not None:
        _write_aliases(run, output, {}, listed, accept_above)


def _apply(run: Run, output: Path, decisions: Path, accept_above: float | None) -> None:
    """The aliases of what a person decided and, with `accept_above`, of the report in `output`."""
    from basket_softmax.overlaps import ClassNames, read_decisions, read_report

    names = ClassNames(run.baskets)
    table = None
    if accept_above is not None:
        for file in (output / REPORT, output / ORIGIN):
            if not file.exists():
                raise ValueError(f"{file} does not exist: run bbs overlaps without --apply first")
        _check_origin(run, output, accept_above)
        table = read_report(output / REPORT, names)
    _write_aliases(run, output, read_decisions(decisions, names), table, accept_above)


def _check_origin(run: Run, output: Path, accept_above: float) -> None:
    """That the report in `output` is of this checkpoint, and lists what is to be accepted."""
    from basket_softmax.overlaps.origin import read_origin

    origin = read_origin(output / ORIGIN)
    if origin.checkpoint != run.fingerprint:
        raise ValueError(
            f"{output / REPORT} is of another checkpoint, step {origin.step:,} of {origin.run}, and --accept-above "
            "takes its confidences: run bbs overlaps without --apply first, or give the --output of this run"
        )
    _check_listed(accept_above, origin.min_confidence)


def _write_aliases(
    run: Run,
    output: Path,
    decisions: dict[tuple[int, int], bool],
    table: Overlaps | None,
    accept_above: float | None,
) -> None:
    from basket_softmax.data import write_aliases
    from basket_softmax.overlaps import ClassNames, persons

    known, names = _known(run), ClassNames(run.baskets)
    if table is not None and len(table.confidence) and all(map(math.isnan, table.confidence)):
        click.echo("note: the pairs have no confidence: --accept-above accepts none of them", err=True)
    found = persons(run.head.baskets.offsets, decisions, table, accept_above, known)
    for first, second in found.twice:
        (basket, a), (_, b) = names.of(first), names.of(second)
        click.echo(f"note: identities {a!r} and {b!r} of basket {basket!r} become one person", err=True)
    for first, second in found.contradicted:
        (basket, a), (other, b) = names.of(first), names.of(second)
        click.echo(
            f"note: you rejected {a!r} of {basket!r} and {b!r} of {other!r}, which are one person by what you accepted "
            "or by the run's aliases",
            err=True,
        )
    write_aliases(output / ALIASES, found.aliases, run.baskets)
    classes = int((found.aliases >= 0).sum())
    people = len(found.aliases[found.aliases >= 0].unique())
    parts = [
        f"{count(found.by_hand, 'pair', 'pairs')} accepted by hand, {found.by_confidence:,} by confidence"
    ]
    if found.left_out:
        parts.append(
            f"{found.left_out:,} left out, as they contradict surer ones, decisions, or the labels of a basket"
        )
    if known is not None:
        known_before = count(
            int((known >= 0).sum()), "identity known before is", "identities known before are"
        )
        parts.append(f"{known_before} kept")
    if classes == 0:
        click.echo(f"{output / ALIASES}: no identities are one person; {'; '.join(parts)}")
        return
    click.echo(
        f"{output / ALIASES}: {classes:,} identities are {count(people, 'person', 'persons')}; {'; '.join(parts)}"
    )
    click.echo(f"train with them: --set loss.aliases={output / ALIASES}")


def _known(run: Run) -> Tensor | None:
    from basket_softmax.training.model import aliases_of

    return aliases_of(run.config, run.baskets)


def _same(found: Overlaps, known: Tensor | None) -> Any:
    """[P] bool: pairs that the run's aliases joined already."""
    import numpy as np

    if known is None:
        return np.zeros(len(found.first), bool)
    alias = known.numpy()
    return (alias[found.first] >= 0) & (alias[found.first] == alias[found.second])


def _prototypes(run: Run, batch_size: int, workers: int) -> Tensor:
    from basket_softmax.overlaps import class_prototypes

    with _bar("embedding images", sum(map(len, run.baskets))) as progress:
        return class_prototypes(
            run.backbone, run.baskets, run.config.image.build(),
            device=run.device, batch_size=batch_size, workers=workers, progress=progress,
        )  # fmt: skip


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[int], None] | None]:
    """A bar that the yielded function moves; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
