"""Stands in for the person who looks at the overlaps' page: accepts each pair that is one person by the truth.

    python examples/review.py overlaps/overlaps.csv data/truth.csv decisions.csv

`truth.csv` comes from examples/glyph_folders.py; with datasets of your own, you are the truth, and the page
overlaps/overlaps.html saves decisions.csv.
"""

from __future__ import annotations

import csv
from pathlib import Path

import click


@click.command(
    help="Write DECISIONS for the pairs of REPORT, accepted where TRUTH says that they are one person."
)
@click.argument("report", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("truth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("decisions", type=click.Path(dir_okay=False, path_type=Path))
def main(report: Path, truth: Path, decisions: Path) -> None:
    person = {
        (row["basket"], row["identity"]): row["person"] for row in csv.DictReader(truth.open(newline=""))
    }
    pairs = list(csv.DictReader(report.open(newline="")))
    accepted = 0
    with decisions.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["basket_a", "identity_a", "basket_b", "identity_b", "decision"])
        for row in pairs:
            a, b = ((row[f"basket_{side}"], row[f"identity_{side}"]) for side in "ab")
            same = person[a] == person[b]
            accepted += same
            writer.writerow([*a, *b, "accept" if same else "reject"])
    click.echo(f"{decisions}: {accepted} of {len(pairs)} pairs accepted")


if __name__ == "__main__":
    main()
