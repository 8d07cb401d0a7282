"""Optional dependencies of a command, checked before it starts: one line that says what to install."""

from __future__ import annotations

import importlib.util

import click


def need(command: str, extra: str, *modules: str) -> None:
    """Ends `command` when a module is missing, naming the extra that brings it.

    Raises:
        click.ClickException: for example `bbs demo needs matplotlib: pip install "bbs-kernels[demo]"`.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise click.ClickException(
            f'{command} needs {" and ".join(missing)}: pip install "bbs-kernels[{extra}]"'
        )
