"""`bbs demo`: train under each rule on overlapping datasets, compare; `basket_softmax.demo` does it."""

from __future__ import annotations

from pathlib import Path

import click

from .extras import need


def _seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        seeds = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a comma-separated list of integers such as 0,1,2"
        ) from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise click.BadParameter(f"{value!r}: seeds are different integers from 0 to 2^31 - 1")
    return seeds


@click.command(short_help="Train on overlapping datasets under each rule and compare.")
@click.option("--quick", is_flag=True, help="One seed and fewer rules.")
@click.option(
    "--seeds", callback=_seeds, metavar="0,1,2", help="Seeds to run; each draws baskets, weights and order."
)
@click.option(
    "--regime",
    type=click.Choice(["many", "style"]),
    default="many",
    show_default=True,
    help="many: many small overlapping baskets. style: few large ones, one per style; mining does not help.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for results.json, results.csv and results.png.",
)
@click.option(
    "--norm",
    type=click.Choice(["batch", "group"]),
    default="batch",
    show_default=True,
    help="Normalisation of the network. group: several processes train exactly as one does, up to rounding.",
)
def demo(quick: bool, seeds: list[int] | None, regime: str, output: Path, norm: str) -> None:
    """Train a small network on overlapping, unaligned datasets of characters under each mining rule.

    Prints rank-1 and TAR@FAR on characters that were never trained, and writes them as JSON, CSV and PNG.

    Several processes train each network together: torchrun --nproc-per-node 2 -m basket_softmax demo
    """
    need("bbs demo", "demo", "matplotlib", "rich")
    from basket_softmax.demo import run_demo

    run_demo(quick=quick, seeds=seeds, regime=regime, output=output, norm=norm)
