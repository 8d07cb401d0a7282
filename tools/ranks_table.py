"""The demo by one process beside the demo by two ranks, as a Markdown table for docs/parallel.md.

python tools/ranks_table.py docs/results/many docs/results/ranks
"""

from __future__ import annotations

import sys
from pathlib import Path

from demo_table import NAMES, mean_sd, read_rows

COMMAND = (
    "torchrun --nproc-per-node 2 -m basket_softmax demo --quick --seeds 0,1,2 --output docs/results/ranks"
)


def table(one: list[dict], two: list[dict]) -> str:
    """Rank-1 of each rule that both have, with the differences by seed in points."""
    of_one = {(row["rule"], row["seed"]): row["rank1"] for row in one}
    of_two = {(row["rule"], row["seed"]): row["rank1"] for row in two}
    lines = [
        "| rule | one process, rank-1 % | two ranks, rank-1 % | difference by seed |",
        "| :-- | --: | --: | --: |",
    ]
    seeds: set[int] = set()
    for rule in dict.fromkeys(row["rule"] for row in two):
        shared = sorted(seed for r, seed in of_one.keys() & of_two.keys() if r == rule)
        seeds |= set(shared)
        cells = [
            NAMES.get(rule, rule),
            mean_sd([of_one[rule, seed] for seed in shared]),
            mean_sd([of_two[rule, seed] for seed in shared]),
            " ".join(
                f"{round(100.0 * (of_two[rule, seed] - of_one[rule, seed]), 1) + 0.0:+.1f}" for seed in shared
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + (
        f"\n\nSeeds {', '.join(map(str, sorted(seeds)))}; mean ± standard deviation over the seeds; differences in "
        f"points. One process: [the demo's own results](demo.md). Two ranks: `{COMMAND}`."
    )


if __name__ == "__main__":
    print(table(*(read_rows(Path(folder)) for folder in sys.argv[1:3])))
