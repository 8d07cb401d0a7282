"""`bbs bench`: the command that the entry point group `basket_softmax.commands` offers to `bbs`."""

from __future__ import annotations

from pathlib import Path

import click

from basket_softmax.cli.extras import need


@click.command(short_help="Time this library beside plain PyTorch.")
@click.option("--quick", is_flag=True, help="Two small cases, for a look at whether it runs.")
@click.option(
    "--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Steps per provider."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch; default: torch's own choice.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench-output"),
    show_default=True,
    help="Folder for results.json, results.csv and results.png.",
)
def bench(quick: bool, rounds: int, threads: int | None, output: Path) -> None:
    """Time one training step of the loss, forward and backward, beside eager PyTorch.

    Providers take turns within each round; the table shows the median and the quartiles. The numbers belong
    to the machine that is named with them.
    """
    need("bbs bench", "bench", "matplotlib", "rich")
    import torch
    from rich.progress import Progress

    from bbs_kernels.info import info

    from . import report
    from .cases import FULL, QUICK
    from .measure import measure

    if threads is not None:
        torch.set_num_threads(threads)
    cases = QUICK if quick else FULL
    timings = []
    with Progress(transient=True) as progress:
        task = progress.add_task("timing", total=rounds * len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            timings += measure(case, rounds=rounds, advance=lambda: progress.advance(task))
    machine = info()
    report.print_table(timings)
    report.write(timings, machine, output)
    click.echo(f"{machine['CPU']}; torch {machine['torch']}\nwritten to {output}")
