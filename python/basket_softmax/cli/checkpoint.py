"""`bbs checkpoint merge | split | inspect`: checkpoints of `basket_softmax.checkpoint` from the shell."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import one_line
from .progress import bar
from .words import count

if TYPE_CHECKING:
    from basket_softmax.checkpoint import Manifest

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(short_help="Merge, split and inspect checkpoints.")
def checkpoint() -> None:
    """Checkpoints of a head, as bs.checkpoint.save writes them: one folder, whatever the number of ranks."""


@checkpoint.command(short_help="What a checkpoint holds.")
@click.argument("folder", type=FOLDER)
@click.option("--no-check", is_flag=True, help="Do not compare the files with their digests.")
def inspect(folder: Path, no_check: bool) -> None:
    """Print the baskets, tensors, ranks and files of the checkpoint in FOLDER, and check the files.

    FOLDER may be an output folder of bbs train: its last checkpoint is taken.
    """
    from basket_softmax.checkpoint.folder import reading, verify

    with _plain_errors():
        folder = _last(folder)
        with reading(folder) as manifest:
            if not no_check:
                with bar("checking", _bytes(manifest)) as progress:
                    verify(folder, manifest, progress=progress)
    _show(manifest)
    click.echo("files not checked" if no_check else "files are those that were written")


@checkpoint.command(short_help="A checkpoint as one .pt file.")
@click.argument("folder", type=FOLDER)
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace OUTPUT if it exists.")
def merge(folder: Path, output: Path, force: bool) -> None:
    """Write the head in FOLDER to OUTPUT, a state_dict with the full weight.

    A head in one process loads it with load_state_dict. Optimiser state and extra are left out. The full weight must
    fit into memory. FOLDER may be an output folder of bbs train: its last checkpoint is taken.
    """
    from basket_softmax.checkpoint.convert import merge as run
    from basket_softmax.checkpoint.manifest import read_manifest
    from basket_softmax.replacing import check_writable

    if output.exists() and not force:
        raise click.ClickException(f"{output} exists: choose another name or give --force")
    if not output.parent.is_dir():
        raise click.ClickException(f"{output.parent} is no folder: make it, or choose another OUTPUT")
    with _plain_errors():
        check_writable(output.parent)  # before all files are read, not after
        folder = _last(folder)
        manifest = read_manifest(folder)
        with bar("checking", _bytes(manifest)) as progress:
            run(folder, output, progress)
    centres = manifest.num_classes * manifest.subcenters
    click.echo(f"{output}: weight [{centres}, {manifest.embedding_size}]")


@checkpoint.command(short_help="A checkpoint from one .pt file or from insightface's.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--basket",
    "baskets",
    multiple=True,
    metavar="NAME=SIZE",
    callback=lambda ctx, parameter, values: _baskets(values),
    help="Name and number of classes; once per basket, in the order of the rows.",
)
@click.option(
    "--subcenters",
    type=int,
    help="Centres of a class, adjacent rows; needed for a tensor that has several and does not know its baskets.",
)
def split(sources: tuple[Path, ...], folder: Path, baskets: dict[str, int], subcenters: int | None) -> None:
    """Write SOURCES as a checkpoint to FOLDER, to be loaded at any number of ranks.

    SOURCES: a .pt file with a tensor [rows, D] or a state_dict that has it as 'weight'; or insightface's
    checkpoint_gpu_*.pt or softmax_fc_gpu_*.pt files of all ranks, or the folder that holds them. Baskets need not be
    given for a file of `bbs checkpoint merge`.
    """
    from basket_softmax import Baskets
    from basket_softmax.checkpoint.convert import split as run
    from basket_softmax.checkpoint.manifest import NAME

    if (folder / NAME).exists():
        raise click.ClickException(f"{folder} holds a checkpoint already: choose another folder")
    with _plain_errors():
        written, each = run(sources, folder, Baskets(baskets) if baskets else None, subcenters)
    centres = f", {each} centres each" if each > 1 else ""
    in_baskets = count(len(written), "basket", "baskets")
    click.echo(f"{folder}: {count(written.num_classes, 'class', 'classes')} in {in_baskets}{centres}")


def _last(folder: Path) -> Path:
    """The folder itself, or the last complete checkpoint of the run whose output it is."""
    from basket_softmax.checkpoint.manifest import NAME
    from basket_softmax.checkpoint.steps import complete_steps

    if (folder / NAME).exists():
        return folder
    steps = complete_steps(folder / "checkpoints")
    if not steps:
        return folder
    last = steps[max(steps)]
    click.echo(f"the last checkpoint of {folder}: {last.relative_to(folder)}", err=True)
    return last


def _baskets(values: Sequence[str]) -> dict[str, int]:
    baskets: dict[str, int] = {}
    for value in values:
        name, _, size = value.rpartition("=")
        if not name or not size.isdecimal():
            raise click.BadParameter(f"{value!r} is not NAME=SIZE, such as webface=10572")
        if name in baskets:
            raise click.BadParameter(f"{name!r} is given twice")
        baskets[name] = int(size)
    return baskets


def _show(manifest: Manifest) -> None:
    click.echo(
        f"{count(manifest.num_classes, 'class', 'classes')}, width {manifest.embedding_size}, written by "
        f"{count(manifest.world, 'rank', 'ranks')} (shard {manifest.kind!r}), torch {manifest.torch}, {manifest.time}"
    )
    first = 0
    rows: list[tuple[str, ...]] = []
    for name, size in manifest.baskets:
        rows.append((name, f"{size:,}", f"{first:,}", f"{first + size - 1:,}" if size else "-"))
        first += size
    _table(("basket", "classes", "first", "last"), rows)
    rows = [
        (name, info.dtype, " x ".join(map(str, info.shape)) or "1") for name, info in manifest.rows.items()
    ]
    _table(("tensor", "dtype", "per class"), rows)
    _table(
        ("file", "bytes", "sha-256"), [(k, f"{v.bytes:,}", v.sha256[:16]) for k, v in manifest.files.items()]
    )
    click.echo(f"optimiser: {manifest.optimizer or 'none'}; extra: {'yes' if manifest.has_extra else 'no'}")
    click.echo(f"fingerprint: {manifest.fingerprint}")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        click.echo(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _bytes(manifest: Manifest) -> int:
    return sum(info.bytes for info in manifest.files.values())


def _plain_errors() -> AbstractContextManager[None]:
    from basket_softmax.checkpoint import CheckpointError

    return one_line(CheckpointError, OSError)
