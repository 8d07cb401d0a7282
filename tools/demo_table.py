"""The demo's results.json as a Markdown table: one source for the README and the documentation.

Input rows: {"rule", "seed", "rank1", "tar_1e3", "tar_1e4", "seconds"}, fractions in [0, 1]. Cells are
percent, mean ± standard deviation over the seeds; differences are paired: one seed under the rule and `own`.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

BASELINE = "own"
NAMES = {
    "all": "naive merge: everybody else is a negative",
    "own": "one softmax head per dataset",
    "below-mistuned": "DAIL threshold, mistuned",
    "below-tuned": "DAIL threshold, tuned",
    "bbs-ema": "top-k under an EMA guard, tuned",
    "bbs": "**Basket-based Softmax**, k = 16",
    "oracle": "oracle: labels merged by true identity",
}


def read_rows(folder: Path) -> list[dict]:
    """The rows of `folder`/results.json.

    Raises:
        FileNotFoundError: with the command that writes the file.
    """
    path = folder / "results.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `bbs demo`, then `python tools/update_readme.py`")
    return json.loads(path.read_text(encoding="utf-8"))


def table(rows: list[dict]) -> str:
    """The Markdown table and the line below it that says what was run."""
    by_rule: dict[str, dict[int, dict]] = {}
    for row in rows:
        by_rule.setdefault(row["rule"], {})[row["seed"]] = row
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| rule | rank-1 % | paired difference by seed | TAR@FAR 1e-3 % | TAR@FAR 1e-4 % |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for rule, of_seed in by_rule.items():
        cells = [
            NAMES.get(rule, rule),
            mean_sd([of_seed[s]["rank1"] for s in of_seed]),
            _differences(rule, of_seed, by_rule.get(BASELINE, {})),
            mean_sd([of_seed[s]["tar_1e3"] for s in of_seed]),
            mean_sd([of_seed[s]["tar_1e4"] for s in of_seed]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    seconds = sum(row["seconds"] for row in rows)
    plural = "seeds" if len(seeds) > 1 else "seed"
    lines.append("")
    lines.append(
        f"{plural.capitalize()} {', '.join(map(str, seeds))}; mean ± standard deviation over the {plural}; "
        f"differences in rank-1 points against `{BASELINE}` (one head per dataset) with the same seed; "
        f"{len(rows)} trainings, {seconds:.0f} s in all."
    )
    return "\n".join(lines)


def mean_sd(fractions: list[float]) -> str:
    """In percent; the mean alone of a single value."""
    percent = [100.0 * value for value in fractions]
    mean = f"{statistics.mean(percent):.1f}"
    return f"{mean} ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else mean


def _differences(rule: str, of_seed: dict[int, dict], baseline: dict[int, dict]) -> str:
    if rule == BASELINE:
        return "0"
    shared = sorted(of_seed.keys() & baseline.keys())
    return " ".join(f"{100.0 * (of_seed[s]['rank1'] - baseline[s]['rank1']):+.1f}" for s in shared) or "–"
