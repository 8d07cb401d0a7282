"""The plots of a results.json again, without measuring: after a change to how they look.

    python bench/redraw.py docs/results/bench docs/results/bench/sizes docs/results/bench/rules

Only for results of the CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bbs_bench.report import draw
from bbs_bench.results import Timing
from bbs_bench.settings import CpuSetting


def timing(row: dict[str, Any]) -> Timing:
    """The inverse of `Timing.row`."""
    fields = dict(row)
    setting = CpuSetting(fields.pop("allocator"), fields.pop("threads"))
    peak = fields["forward_gflops"] / fields.pop("peak_share")
    return Timing(setting=setting, peak_gflops=peak, **fields)


def main() -> None:
    for name in sys.argv[1:]:
        folder = Path(name)
        document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        draw([timing(row) for row in document["timings"]], document["machine"], folder)


if __name__ == "__main__":
    main()
