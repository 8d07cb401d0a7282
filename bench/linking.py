"""What identity linking closes of the distance from one head per dataset to the oracle; `--docs` renews the page.

    OMP_NUM_THREADS=1 python bench/linking.py                # resumes where it stopped
    python bench/linking.py --docs

The trainings are those of bench/experiments.py, cell "many", and lie in its results.
"""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import click

from bbs_experiments import page, store
from bbs_experiments.statistics import Cell, interval
from bbs_experiments.tables import pairs, table

ROOT = Path(__file__).resolve().parents[1]
TRAININGS = ROOT / "docs" / "results" / "experiments" / "results.jsonl"
FOLDER = ROOT / "docs" / "results" / "linking"
RULES = ("own", "bbs", "linker-exclude", "linker", "linker-twice", "oracle")
JUDGED = RULES[1:-1]
PAIRS = (
    ("linker-exclude", "bbs"), ("linker", "bbs"), ("linker-twice", "linker"), ("oracle", "linker")
)  # fmt: skip
METRICS = {"rank1": "rank-1", "tar_1e3": "TAR@FAR 1e-3", "tar_1e4": "TAR@FAR 1e-4"}


@click.command()
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Seeds 0 to this, less one."
)
@click.option("--docs", is_flag=True, help="Train nothing; renew docs/linking.md and docs/results/linking.")
def main(seeds: int, docs: bool) -> None:
    """Identity linking against the default rule and the oracle, on many small baskets."""
    if docs:
        write_page(store.read(TRAININGS))
        return
    from bbs_experiments.training import train_missing

    train_missing([("many", rule, seed) for seed in range(seeds) for rule in RULES], TRAININGS)


def write_page(rows: list[store.Row]) -> None:
    """results.json, results.csv, results.png and the tables of docs/linking.md."""
    from bbs_experiments import plots

    cell = Cell(rows, "many")
    judged = [rule for rule in JUDGED if cell.seeds(rule, "own", "oracle")]
    if "linker" not in judged:
        raise click.ClickException("no training of the linker yet: run python bench/linking.py first")
    FOLDER.mkdir(parents=True, exist_ok=True)
    used = [cell.of[rule][seed] for rule in ("own", *judged, "oracle") for seed in cell.seeds(rule)]
    closed = {rule: {metric: _rounded(cell, rule, metric) for metric in METRICS} for rule in judged}
    document = {"closed_percent": closed, "trainings": used}
    (FOLDER / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (FOLDER / "results.csv").open("w", newline="", encoding="utf-8") as file:
        fields = list(dict.fromkeys(name for row in used for name in row))
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(used)
    plots.closed(cell, judged, FOLDER / "results.png")
    content = {
        "table": partial(table, cell, RULES),
        "closed": partial(_closed, cell, judged),
        "pairs": partial(pairs, cell, PAIRS, METRICS),
        "links": partial(_links, cell),
    }
    page.renew(ROOT / "docs" / "linking.md", content)


def _rounded(cell: Cell, rule: str, metric: str) -> dict[str, float]:
    found = cell.closed(rule, metric)
    assert found is not None  # checked above
    return {"mean": round(found.mean, 2), "half": round(found.half, 2), "seeds": found.n}


def _closed(cell: Cell, judged: list[str]) -> str:
    lines = ["| rule | " + " | ".join(METRICS.values()) + " | seeds |", "| :-- | --: | --: | --: | --: |"]
    for rule in judged:
        found = [cell.closed(rule, metric) for metric in METRICS]
        figures = [f"{each.text(digits=0)} %" for each in found]
        lines.append(f"| `{rule}` | " + " | ".join(figures) + f" | {found[0].n} |")
    return "\n".join(lines)


def _links(cell: Cell) -> str:
    precision, recall = (interval(cell.percent("linker", name)) for name in ("link_precision", "link_recall"))
    return (
        f"At the end of a training {recall.text()} % of the true pairs of classes exchange labels; of the pairs that "
        f"exchange labels {precision.text()} % are true."
    )


if __name__ == "__main__":
    main()
