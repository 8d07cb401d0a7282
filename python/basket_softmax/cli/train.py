"""`bbs train`: a config file, or a few options, to a trained run; `basket_softmax.training` does it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from .errors import one_line
from .extras import need
from .progress import bar

OPTIONS = {  # those that stand for a key of the config
    "output": "output",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "lr": "optimizer.lr",
    "device": "device",
}
NEEDS = {"pydantic": "pydantic", "yaml": "pyyaml", "rich": "rich", "PIL": "pillow"}


@click.command(short_help="Train a backbone and a head on several datasets.")
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--basket",
    "baskets",
    multiple=True,
    metavar="NAME=PATH",
    help="A dataset: a folder with a sub-folder per identity, a .csv or .parquet manifest, or a .rec file. Repeat it. "
    "Of a basket that CONFIG names only the path is replaced; --set baskets.NAME.KEY=VALUE sets its other keys.",
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for checkpoints and logs."
)
@click.option("--epochs", type=int, help="Passes over the data.")
@click.option("--batch-size", type=int, help="Images per step, over all ranks together.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--device", help="cpu, cuda or cuda:N.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key, such as loss.margin.margin=0.4 or baskets.NAME.proportion=2; a section, such as "
    "loss.mining=own, replaces all of its keys. Repeat it: the last one counts.",
)
@click.option(
    "--resume", is_flag=True, help="Go on from the last checkpoint in the output folder, if there is one."
)
@click.option(
    "--check", is_flag=True, help="Read every image's header, say what training will cost, and train nothing."
)
@click.option(
    "--decode",
    is_flag=True,
    help="With --check: also decode every image, which finds files that are cut off; slower.",
)
@click.option("--print-config", is_flag=True, help="Print the whole config, defaults included, and stop.")
def train(config: Path | None, baskets: tuple[str, ...], changes: tuple[str, ...], **options: Any) -> None:
    """Train as CONFIG (YAML) says, or with --basket and --output alone.

    \b
    bbs train run.yaml
    bbs train --basket webface=data/webface --basket glint=data/glint.rec --output runs/first
    torchrun --nproc-per-node 2 --no-python bbs train run.yaml
    """
    need("bbs train", "train", *NEEDS, packages=NEEDS)
    from basket_softmax import training
    from basket_softmax.training.errors import EXPECTED

    if options["decode"] and not options["check"]:
        raise click.UsageError("--decode is a part of --check: give both")
    try:
        with one_line(*EXPECTED):
            resolved = _config(training, config, baskets, changes, options)
            if options["print_config"]:
                click.echo(training.to_yaml(resolved), nl=False)
            elif options["check"]:
                _check(training, resolved, options["resume"], options["decode"])
            else:
                training.train(resolved, resume=options["resume"])
    except KeyboardInterrupt:
        click.echo(
            "interrupted: --resume goes on from the last checkpoint, or starts over if there is none yet",
            err=True,
        )
        raise SystemExit(130) from None


def _check(training: Any, config: Any, resume: bool, decode: bool) -> None:
    """Print the report; exit code 1 if something stands against the run. The bar shows only where it can move."""
    with ExitStack() as stack:
        move: Any = None
        before = 0

        def advance(done: int, total: int) -> None:
            nonlocal move, before
            if move is None:
                move = stack.enter_context(bar("reading images", total))
            move(done - before)
            before = done
            if done == total:
                stack.close()

        report = training.check(config, advance if sys.stderr.isatty() else None, resume, decode)
    if report is not None:
        click.echo(str(report))
        if not report.ok:
            raise SystemExit(1)


def _config(
    training: Any,
    config: Path | None,
    baskets: tuple[str, ...],
    changes: tuple[str, ...],
    options: dict[str, Any],
) -> Any:
    from basket_softmax.training.changes import change_values, holds, split_key

    given: dict[str | tuple[str, ...], Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not key or not equals:
            raise click.BadParameter(
                f"expected KEY=VALUE, such as loss.scale=32, got {change!r}", param_hint="--set"
            )
        section = split_key(key)
        given.pop(section, None)  # they count in their order, and the options after them
        given[section] = training.parse_yaml(value, f"--set {key}")
    set_here = change_values({}, given)

    def add(option: str, keys: tuple[str, ...], value: Any) -> None:
        if holds(set_here, keys):
            raise click.BadParameter(
                f"{'.'.join(keys)}: expected one value, got one by {option} and one by --set"
            )
        given[keys] = value

    for name, key in OPTIONS.items():
        if options[name] is not None:
            add(f"--{name.replace('_', '-')}", split_key(key), options[name])
    for basket in baskets:
        name, equals, path = basket.partition("=")
        if not name or not path:
            raise click.BadParameter(
                f"expected NAME=PATH, such as glint=data/glint, got {basket!r}", param_hint="--basket"
            )
        keys = ("baskets", name, "path")  # the basket's other keys, of --set and of the config, stay
        if keys in given and not holds(set_here, keys):
            raise click.BadParameter(f"{name!r}: expected one path, got two", param_hint="--basket")
        add("--basket", keys, path)
    if config is not None:
        return training.load_config(config, given)
    if not baskets:
        raise click.UsageError("give a CONFIG, or --basket NAME=PATH and --output DIR")
    return training.make_config({}, given, "options")
