"""The command line, `bbs`. Commands import what they need when they run: a missing extra stops only its own.

Commands from elsewhere join through the entry point group `basket_softmax.commands`; `bbs bench` does, since
the library must not import its benchmarks.
"""

from __future__ import annotations

from importlib import metadata

import click

from .checkpoint import checkpoint
from .demo import demo
from .info import info
from .overlaps import overlaps
from .train import train

ENTRY_POINTS = "basket_softmax.commands"


class Commands(click.Group):
    """The commands of this package, then those that entry points add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        joined = {point.name for point in metadata.entry_points(group=ENTRY_POINTS)}
        return sorted(joined.union(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        known = super().get_command(ctx, name)
        if known is not None:
            return known
        points = list(metadata.entry_points(group=ENTRY_POINTS, name=name))
        return points[0].load() if points else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bbs-kernels", prog_name="bbs")
def main() -> None:
    """Basket-based Softmax: training on many datasets whose identities overlap."""


main.add_command(checkpoint)
main.add_command(demo)
main.add_command(info)
main.add_command(overlaps)
main.add_command(train)
