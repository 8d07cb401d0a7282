"""What `bbs bench` prints and writes: a table, results.json (with the machine), results.csv and plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import plots
from .cases import SIZES
from .results import LeftOut, Timing


class Form(NamedTuple):
    """How figures of a device are shown."""

    processor: str  # its name among the facts of `bbs info`
    milliseconds: str
    rate_name: str
    rate: str
    per_rate: float  # GFLOP/s
    peak_name: str


FORMS = {
    "cpu": Form("CPU", ".1f", "fwd GF/s", ".0f", 1.0, "of peak"),
    "cuda": Form("GPU", ".3f", "fwd TF/s", ".1f", 1000.0, "of cuBLAS"),
}


def print_table(timings: Sequence[Timing]) -> None:
    from rich.console import Console
    from rich.table import Table

    form = form_of(timings)
    table = Table(title="milliseconds per step (forward + backward); × ours: median of the rounds' ratios")
    for column in (
        "case",
        "provider",
        "median",
        "quartiles",
        "× ours",
        form.rate_name,
        form.peak_name,
        "extra MiB",
    ):
        text = column in ("case", "provider")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "case")
    previous = None
    for timing in timings:
        title = f"{timing.case}\n{timing.setting.label()}"
        median, lower, upper = (
            f"{1e3 * seconds:{form.milliseconds}}"
            for seconds in (timing.median, timing.lower_quartile, timing.upper_quartile)
        )
        table.add_row(
            title if title != previous else "",
            timing.provider,
            median,
            f"{lower} – {upper}",
            f"{timing.ratio:.2f}",
            f"{timing.forward_gflops / form.per_rate:{form.rate}}",
            f"{timing.peak_share:.0%}",
            "–" if timing.extra_mib is None else f"{timing.extra_mib:.0f}",
            end_section=False,
        )
        previous = title
    Console(width=140).print(table)


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """One line for each provider and reason, with the cases that it hit."""
    cases: dict[tuple[str, str], list[str]] = {}
    for item in left_out:
        cases.setdefault((item.provider, item.reason), []).append(f"{item.case}, {item.setting.label()}")
    return [f"left out: {name} ({reason}): {'; '.join(hit)}" for (name, reason), hit in cases.items()]


def form_of(timings: Sequence[Timing]) -> Form:
    return FORMS[timings[0].setting.device]


def write(
    timings: Sequence[Timing], left_out: Sequence[LeftOut], machine: dict[str, str], folder: Path
) -> None:
    """Write the result files into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [timing.row() for timing in timings]
    document: dict[str, Any] = {
        "machine": machine,
        "unit": "seconds per step, forward and backward",
        "timings": rows,
    }
    if timings[0].setting.device == "cuda":  # on the CPU a provider that fails ends the run
        document["left_out"] = [
            {"case": o.case, "dtype": o.setting.dtype, "provider": o.provider, "reason": o.reason}
            for o in left_out
        ]
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(timings, machine, folder)


def draw(timings: Sequence[Timing], machine: dict[str, str], folder: Path) -> None:
    """Write the plots into `folder`."""
    processor = machine[form_of(timings).processor]
    sizes = {case.name: case.classes for case in SIZES}
    swept = [t for t in timings if t.case in sizes]
    if swept:
        plots.plot_sizes(swept, sizes, processor, folder / "sizes.png")
    rest = [t for t in timings if t.case not in sizes]
    if rest:
        plots.plot_bars(rest, processor, folder / "results.png")
