"""`bbs info`: the same as `python -m bbs_kernels.info`."""

from __future__ import annotations

import click


@click.command(short_help="What was built and what this machine has.")
def info() -> None:
    """Print versions, instruction sets, threads and GPUs: the facts a bug report needs."""
    from bbs_kernels.info import main

    main()
