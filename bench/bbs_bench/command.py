"""`bbs bench`: the command that the entry point group `basket_softmax.commands` offers to `bbs`."""

from __future__ import annotations

from pathlib import Path

import click

from basket_softmax.cli.extras import need

from .choice import check_gpu, chosen_settings
from .settings import ALLOCATORS, DTYPES


@click.command(short_help="Time this library beside plain PyTorch and its peers.")
@click.option("--quick", is_flag=True, help="Two small cases, for a look at whether it runs.")
@click.option(
    "--suite",
    "suites",
    type=click.Choice(["main", "rules", "sizes", "gpu"]),
    multiple=True,
    help="main: the cases of the README; rules: baskets and k; sizes: C from 1 k to 2 M; gpu: 1,024 rows and up to 1 M "
    "classes. Repeatable; default: main, with --device cuda gpu.",
)
@click.option(
    "--rounds", type=click.IntRange(min=2), default=9, show_default=True, help="Steps per provider."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(DTYPES),
    multiple=True,
    help="cuda: of the embeddings; centres are float32. Repeatable; default: all, with --quick float32.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), multiple=True, help="cpu: repeatable; default: 1 and 2."
)
@click.option(
    "--allocator",
    "allocators",
    type=click.Choice(list(ALLOCATORS)),
    multiple=True,
    help="cpu: default: as people run; tuned: glibc's mmap and trim off. Repeatable; default: both.",
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
    device: str,
    dtypes: tuple[str, ...],
    threads: tuple[int, ...],
    allocators: tuple[str, ...],
    output: Path,
) -> None:
    """Time one training step of the loss, forward and backward, beside other ways to compute it.

    Providers take turns within each round; the table shows medians, quartiles and the median ratio to ours. The
    numbers belong to the machine that is named with them. On the CPU peak memory is measured in a process of its own.

    On a GPU everything runs in one process, the clock is CUDA events, the L2 cache is flushed before each step, and
    rates stand beside those that cuBLAS reaches in the same dtype in the same run.
    """
    settings = chosen_settings(device, quick=quick, dtypes=dtypes, threads=threads, allocators=allocators)
    if device == "cuda":
        check_gpu()
    need("bbs bench", "bench", "matplotlib", "rich")
    from rich.progress import Progress

    from bbs_kernels.info import info

    from . import report
    from .cases import DEFAULT_SUITE, SUITES
    from .orchestrate import run_suite

    chosen = ("quick",) if quick else suites or (DEFAULT_SUITE[device],)
    timings, left_out = [], []
    with Progress(transient=True) as progress:
        total = rounds * len(settings) * sum(len(SUITES[suite]) for suite in chosen)
        task = progress.add_task("timing", total=total)
        for suite in chosen:
            timed, missing = run_suite(
                suite,
                settings,
                rounds=rounds,
                describe=lambda text: progress.update(task, description=text),
                advance=lambda: progress.advance(task),
            )
            timings += timed
            left_out += missing
    machine = info()
    report.print_table(timings)
    for line in report.left_out_lines(left_out):
        click.echo(line)
    report.write(timings, left_out, machine, output)
    processor = machine[report.form_of(timings).processor]
    click.echo(f"{processor}; torch {machine['torch']}\nwritten to {output}")
