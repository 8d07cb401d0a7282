"""A script under torchrun on this machine, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def torchrun(
    ranks: int,
    script: Path,
    *arguments: object,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run `script` with its `arguments` on several ranks until all have ended well; return what they printed.

    Args:
        options: of torchrun itself.
        environment: variables beside those of this process; OMP_NUM_THREADS is 1 unless given.
        folder: the working directory.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        *options,
    ]
    done = subprocess.run(
        [*command, str(script), *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def losses_of_ranks(folder: Path, ranks: int = 2) -> list[float]:
    """Return what the ranks wrote to `losses-RANK.txt`, a number a line, which must be the same on all of them."""
    every = [[float(line) for line in (folder / f"losses-{rank}.txt").open()] for rank in range(ranks)]
    assert all(losses == every[0] for losses in every)
    return every[0]
