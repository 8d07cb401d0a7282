"""Is a confidence of 0.9 right nine times in ten? Trains briefly on characters with planted overlaps and counts.

    python bench/overlap_truth.py WORK --output docs/results/overlaps

Writes truth.csv, a row per case, source and band of confidence, and truth.png. WORK keeps images and runs.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BANDS = (0.0, 0.1, 0.5, 0.8, 0.9, 0.95, 1.0)
COLUMNS = (
    "case",
    "source",
    "from",
    "to",
    "pairs",
    "mean_confidence",
    "true_pairs",
    "precision",
    "planted",
    "recall_from_here",
)


class Case(NamedTuple):
    """Options of examples/glyph_folders.py."""

    baskets: int
    identities: int
    overlap: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.baskets} baskets of {self.identities}, {self.overlap:.0%} shared"


CASES = (Case(3, 100, 0.3, 1), Case(5, 80, 0.5, 2), Case(2, 120, 0.0, 3))


def trained(case: Case, work: Path) -> tuple[Any, dict[tuple[str, str], str]]:
    """The run of `bbs train` on the case, and the truth: {(basket, identity): person}."""
    from basket_softmax.training import load_run, make_config, train

    folder = work / f"case{case.seed}"
    if not (folder / "images").exists():
        options = zip(("--baskets", "--identities", "--overlap", "--seed"), case, strict=True)
        command = [sys.executable, ROOT / "examples" / "glyph_folders.py", folder / "images", "--held-out", 0]
        subprocess.run(
            [*map(str, command), *(str(part) for option in options for part in option)], check=True
        )
    config = make_config(
        {
            "baskets": {f"basket{b}": folder / "images" / f"basket{b}" for b in range(case.baskets)},
            "output": folder / "run",
            "image": {"size": 32, "channels": 1},
            "augment": {"crop": 0.1, "rotate": 8, "flip": 0},
            "backbone": {
                "factory": "basket_softmax.training.backbones:iresnet",
                "embedding_size": 64,
                "args": {"layers": [1, 1, 1], "width": 16},
            },
            "loss": {
                "margin": {"name": "cosface", "margin": 0.35},
                "mining": {"name": "topk", "k": 16},
                "scale": 16,
            },
            "optimizer": {"name": "adamw", "lr": 0.005, "weight_decay": 0.0005},
            "epochs": 12,
            "workers": 0,
            "log": {"tensorboard": False},
            "seed": case.seed,
        },
        {},
    )
    train(config, resume=True)
    with (folder / "images" / "truth.csv").open(newline="", encoding="utf-8") as file:
        truth = {(row["basket"], row["identity"]): row["person"] for row in csv.DictReader(file)}
    return load_run(folder / "run"), truth


def reliability(case: Case, work: Path) -> list[dict[str, Any]]:
    """Rows of truth.csv, from the prototypes and from the centres."""
    from basket_softmax.overlaps import ClassNames, class_prototypes, find_overlaps

    run, truth = trained(case, work)
    names = ClassNames(run.baskets)
    person = np.array([truth[names.of(c)] for c in range(len(names))])
    planted = sum(comb(n, 2) for n in Counter(person.tolist()).values())
    rows = []
    prototypes = class_prototypes(run.backbone, run.baskets, run.config.image.build())
    for source, centres in (("prototypes", prototypes), ("centres", run.head.full_weight())):
        found = find_overlaps(centres, run.head.baskets)
        true = person[found.first] == person[found.second]
        for low, high in pairwise(BANDS):
            band = (found.confidence >= low) & (found.confidence < high)
            n, right = int(band.sum()), int(true[band].sum())
            rows.append({
                "case": case.name, "source": source, "from": low, "to": high, "pairs": n,
                "mean_confidence": f"{found.confidence[band].mean():.4f}" if n else "",
                "true_pairs": right, "precision": f"{right / n:.4f}" if n else "", "planted": planted,
                "recall_from_here": f"{true[found.confidence >= low].sum() / planted:.4f}" if planted else "",
            })  # fmt: skip
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Precision against mean confidence of each band; the area of a dot is its number of pairs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, source in zip(panels, ("prototypes", "centres"), strict=True):
        axes.plot([0, 1], [0, 1], ":", color="grey")
        for n, case in enumerate(dict.fromkeys(row["case"] for row in rows)):
            dots = [row for row in rows if (row["case"], row["source"]) == (case, source) and row["pairs"]]
            x, y = ([float(row[key]) for row in dots] for key in ("mean_confidence", "precision"))
            area = [8 + row["pairs"] for row in dots]
            axes.scatter(x, y, area, color=f"C{n}", alpha=0.6, label=case, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of a band", title=f"from {source}")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="share of true pairs")
    legend = panels[0].legend(fontsize=7, loc="upper left")
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": ""})


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("docs/results/overlaps")
)
def main(work: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    rows = [row for case in CASES for row in reliability(case, work)]
    with (output / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, output / "truth.png")
    for row in rows:
        click.echo("  ".join(str(row[column]) for column in COLUMNS))


if __name__ == "__main__":
    main()
