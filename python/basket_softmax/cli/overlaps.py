"""`bbs overlaps`: which identities of different datasets are one; `basket_softmax.overlaps` does it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .device import known_device
from .errors import one_line
from .extras import need
from .progress import bar
from .words import count

if TYPE_CHECKING:
    from torch import Tensor

    from basket_softmax.overlaps import Overlaps
    from basket_softmax.training import Run

NEEDS = {"pydantic": "pydantic", "yaml": "pyyaml", "rich": "rich", "PIL": "pillow", "sklearn": "scikit-learn"}
PAIRS = ("mutual pair", "mutual pairs")
SURE = 0.9  # for the summary only
SEARCH = {
    "source": "--from",
    "min_confidence": "--min-confidence",
    "page_pairs": "--page-pairs",
    "page_images": "--page-images",
    "batch_size": "--batch-size",
    "workers": "--workers",
}


class _Probability(click.FloatRange):
    """0 to 1; NaN, which passes every comparison of click's, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range 0<=x<=1.", param, ctx)
        return number


PROBABILITY = _Probability(0, 1)


@click.command(short_help="List identities of different datasets that are one, to accept or reject.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("overlaps"),
    show_default=True,
    help="Folder for overlaps.csv, overlaps.html and aliases.csv.",
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
    help="CSV saved from the page: write aliases.csv from it and search nothing.",
)
@click.option(
    "--accept-above",
    type=PROBABILITY,
    help="Also accept pairs with this confidence or more into aliases.csv.",
)
@click.option(
    "--device",
    callback=known_device,
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
    else:
        _refuse_with_apply()
    need("bbs overlaps", "train", *NEEDS, packages=NEEDS)
    from basket_softmax.training import load_run
    from basket_softmax.training.errors import EXPECTED

    with one_line(*EXPECTED, ValueError):
        if (output / "config.yaml").exists():  # its overlaps.csv is the log that --resume goes on with
            raise click.BadParameter(
                f"{output} holds a run, whose overlaps.csv would be lost", param_hint="--output"
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


def _refuse_with_apply() -> None:
    """Options of the search, which --apply does not begin."""
    context = click.get_current_context()
    for name, option in SEARCH.items():
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{option}: expected without --apply, which searches nothing and takes the report of --output as it is"
            )


def _check_listed(above: float | None, least: float) -> None:
    if above is not None and above < least:
        raise click.UsageError(
            f"--accept-above: expected --min-confidence, {least:g}, or more, got {above:g}: others are not listed"
        )


def _find(run: Run, path: Path, output: Path, accept_above: float | None, **options: Any) -> None:
    """Search, then say what was found and written."""
    from basket_softmax.overlaps.workflow import PAGE, REPORT, report

    known = _known(run)
    made = report(
        run,
        path,
        output,
        run.config.image.build(),
        known=known,
        accept_above=accept_above,
        bar=bar,
        **options,
    )
    found, least = made.found, options["min_confidence"]
    classes = sum(len(basket.identities) for basket in run.baskets)
    compared = f"{classes:,} identities in {len(run.baskets)} baskets: {count(len(found.first), *PAIRS)}"
    if made.unsure is None:
        sure = int((found.confidence >= SURE).sum())
        click.echo(
            f"{compared}, {sure:,} with confidence {SURE} or more; by their confidences about "
            f"{found.confidence.sum():,.0f} are one person"
        )
        if options["source"] == "centres":
            click.echo(
                "confidences from centres are too high, see the documentation: look at the pairs, or use prototypes"
            )
    else:
        click.echo(compared)
        click.echo(f"note: {made.unsure}. The pairs are listed without a confidence", err=True)
    of_them = f"with confidence {least} or more" if made.unsure is None else "without a confidence"
    click.echo(f"{output / REPORT}: {count(len(made.listed.first), 'pair', 'pairs')} {of_them}")
    megabytes = (output / PAGE).stat().st_size / 1e6
    click.echo(
        f"{output / PAGE}: {made.shown:,} of {len(made.undecided.first):,} pairs to decide, {megabytes:.1f} MB"
    )
    if accept_above is not None:
        _decide(run, output, {}, made.listed, accept_above)


def _apply(run: Run, output: Path, decisions: Path, accept_above: float | None) -> None:
    """The aliases of what a person decided and, with `accept_above`, of the report in `output`."""
    from basket_softmax.overlaps import ClassNames, read_decisions
    from basket_softmax.overlaps.workflow import reported

    table = None
    if accept_above is not None:
        origin, table = reported(run, output)
        _check_listed(accept_above, origin.min_confidence)
    _decide(run, output, read_decisions(decisions, ClassNames(run.baskets)), table, accept_above)


def _decide(
    run: Run,
    output: Path,
    decisions: dict[tuple[int, int], bool],
    table: Overlaps | None,
    accept_above: float | None,
) -> None:
    """Write the aliases, and say who became one person and why."""
    from basket_softmax.overlaps import ClassNames
    from basket_softmax.overlaps.workflow import ALIASES, decide

    known, names = _known(run), ClassNames(run.baskets)
    if table is not None and len(table.confidence) and all(map(math.isnan, table.confidence)):
        click.echo("note: the pairs have no confidence: --accept-above accepts none of them", err=True)
    found = decide(run, output, decisions, table, accept_above, known)
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
