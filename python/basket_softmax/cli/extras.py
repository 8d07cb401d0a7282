"""Optional dependencies of a command, checked before it starts: one line that says what to install."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import click


def need(command: str, extra: str, *modules: str, packages: Mapping[str, str] | None = None) -> None:
    """Ends `command` when a module is missing, naming the extra that brings it.

    Args:
        packages: names on PyPI of modules that are called otherwise.

    Raises:
        click.ClickException: for example `bbs demo needs matplotlib: pip install "bbs-kernels[demo]"`.
    """
    names = packages or {}
    missing = [names.get(module, module) for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise click.ClickException(
            f'{command} needs {" and ".join(missing)}: pip install "bbs-kernels[{extra}]"'
        )
