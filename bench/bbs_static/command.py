"""`python bench/static_report.py`: compile, read, compare, write, check."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click

from .gate import Finding, check
from .gpus import BY_ARCH
from .grids import grid_fills
from .images import ROOT, provide
from .kernels import BASELINE, KERNELS, Kernel
from .machine import execute_once
from .page import put_grids, put_roofline, report_page
from .results import Row, add_executed, compare, measure
from .roofline import roofline
from .tools import Tools, find_tools


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "bench" / "results" / "static",
    help="Folder for report.json and report.csv; default: bench/results/static.",
)
@click.option("--docs", is_flag=True, help="Rewrite docs/static-report.md and the tables of docs/cuda.md.")
@click.option("--check", "gate", is_flag=True, help="Exit with 1 if a bound is missed.")
@click.option(
    "--arch",
    "arches",
    type=click.Choice(list(BY_ARCH)),
    multiple=True,
    help="Repeatable; default: all.",
)
@click.option("--only", default="", help="Kernels whose name contains this, and CUTLASS's.")
@click.option(
    "--traced",
    multiple=True,
    help="Repeatable; follow and execute the accesses of main loops of kernels whose name contains this only, which is "
    "what takes the time; default: of all.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--executed/--no-executed", default=True, help="Run each main loop in the PTX machine as well.")
def main(
    output: Path,
    docs: bool,
    gate: bool,
    arches: tuple[str, ...],
    only: str,
    traced: tuple[str, ...],
    jobs: int,
    executed: bool,
) -> None:
    """Read registers, spills, occupancy, bank conflicts, coalescing and issue cycles of every CUDA kernel from its
    machine code, beside CUTLASS's GEMM of the same tile. No GPU is needed and nothing is timed.
    """
    tools = find_tools()
    rows = collect(tools, arches or tuple(BY_ARCH), only, traced or ("",), jobs, executed)
    findings = check(rows, KERNELS)
    write(rows, findings, tools.versions(), output)
    if docs:
        write_docs(rows, findings, tools.versions())
    click.echo(f"{len(rows)} kernels read; written to {output}")
    missed = [finding for finding in findings if not finding.holds]
    click.echo(f"{len(findings)} bounds, {len(missed)} missed")
    for f in missed:
        click.echo(f"  {f.arch}  {f.kernel}: {f.what} {f.value}, bound {f.bound}\n      {f.reason}")
    if gate and missed:
        raise SystemExit(1)


def collect(
    tools: Tools, arches: tuple[str, ...], only: str, traced: tuple[str, ...], jobs: int, executed: bool
) -> list[Row]:
    wanted = {name: kernel for name, kernel in KERNELS.items() if only in name or name == BASELINE}
    families: dict[str, list[Kernel]] = {}
    for kernel in wanted.values():
        families.setdefault(kernel.family, []).append(kernel)
    cubins = provide(families, arches, tools, jobs)
    with ProcessPoolExecutor(jobs) as pool:
        running = [
            pool.submit(measure, cubins[family, arch], tuple(kernels), arch, tools, traced)
            for arch in arches
            for family, kernels in families.items()
        ]
        counts = {
            name: pool.submit(execute_once, kernel)
            for name, kernel in wanted.items()
            if executed and kernel.work and kernel.is_traced(traced)
        }
        rows = []
        with click.progressbar(running, label="kernels", length=len(running)) as bar:
            for done in bar:
                rows += done.result()
        for row in rows:
            if row.kernel in counts:
                add_executed(row, counts[row.kernel].result())
    order = list(wanted)
    rows.sort(key=lambda row: (arches.index(row.arch), order.index(row.kernel)))
    compare(rows, BASELINE, KERNELS)
    return rows


def write(rows: list[Row], findings: list[Finding], versions: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "tools": versions,
        "measured": "nothing: read from machine code, computed from launch plans",
        "kernels": [asdict(row) for row in rows],
        "bounds": len(findings),
        "missed": [asdict(finding) for finding in findings if not finding.holds],
    }
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with (folder / "report.csv").open("w", newline="", encoding="utf-8") as file:
        flat = [{k: v for k, v in asdict(row).items() if not isinstance(v, dict)} for row in rows]
        writer = csv.DictWriter(file, fieldnames=list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def write_docs(rows: list[Row], findings: list[Finding], versions: dict[str, str]) -> None:
    (ROOT / "docs" / "static-report.md").write_text(report_page(rows, findings, versions), encoding="utf-8")
    page = ROOT / "docs" / "cuda.md"
    rates = {(row.kernel, row.arch): row.flops_per_cycle for row in rows if row.flops_per_cycle}
    text = put_roofline(page.read_text(encoding="utf-8"), roofline(rates))
    page.write_text(put_grids(text, grid_fills()), encoding="utf-8")
