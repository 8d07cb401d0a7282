"""`bbs bench`: the command that the entry point group `basket_softmax.commands` offers to `bbs`."""

from __future__ import annotations

from pathlib import Path

import click

from basket_softmax.cli.extras import need


@click.command(short_help="Time this library beside plain PyTorch and its peers.")
@click.option("--quick", is_flag=True, help="Two small cases, for a look at whether it runs.")
@click.option(
    "--suite",
    "suites",
    type=click.Choice(["main", "rules", "sizes"]),
    multiple=True,
    help="main: the cases of the README; rules: baskets and k; sizes: C from 1 k to 2 M. Repeatable; default: main.",
)
@click.option(
    "--rounds", type=click.IntRange(min=2), default=9, show_default=True, help="Steps per provider."
)
@click.option("--threads", type=click.IntRange(min=1), multiple=True, help="Repeatable; default: 1 and 2.")
@click.option(
    "--allocator",
    "allocators",
    type=click.Choice(["default", "tuned"]),
    multiple=True,
    help="default: as people run; tuned: glibc's mmap and trim off. Repeatable; default: both.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench-output"),
    show_default=True,
    help="Folder for results.json, results.csv and the plots.",
)
def bench(
    quick: bool,
    suites: tuple[str, ...],
    rounds: int,
    threads: tuple[int, ...],
    allocators: tuple[str, ...],
    output: Path,
) -> None:
    """Time one training step of the loss, forward and backward, beside other ways to compute it.

    Providers take turns within each round; the table shows medians, quartiles and the median ratio to ours. The
    numbers belong to the machine that is named with them. Peak memory is measured in a process of its own.
    """
    need("bbs bench", "bench", "matplotlib", "rich")
    from rich.progress import Progress

    from bbs_kernels.info import info

    from . import report
    from .cases import SUITES
    from .orchestrate import run_suite

    chosen = ("quick",) if quick else suites or ("main",)
    threads = threads or ((1,) if quick else (1, 2))
    allocators = allocators or (("default",) if quick else ("default", "tuned"))
    timings = []
    with Progress(transient=True) as progress:
        total = rounds * len(threads) * len(allocators) * sum(len(SUITES[suite]) for suite in chosen)
        task = progress.add_task("timing", total=total)
        for suite in chosen:
            timings += run_suite(
                suite,
                rounds=rounds,
                allocators=allocators,
                threads=threads,
                memory=True,
                describe=lambda text: progress.update(task, description=text),
                advance=lambda: progress.advance(task),
            )
    machine = info()
    report.print_table(timings)
    report.write(timings, machine, output)
    click.echo(f"{machine['CPU']}; torch {machine['torch']}\nwritten to {output}")
