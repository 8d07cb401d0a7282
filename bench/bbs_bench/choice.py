"""From the options of `bbs bench` to settings, and the messages for options that belong to the other device."""

from __future__ import annotations

import click
import torch

from .settings import ALLOCATORS, DTYPES, CpuSetting, CudaSetting, Setting


def chosen_settings(
    device: str,
    *,
    quick: bool,
    dtypes: tuple[str, ...],
    threads: tuple[int, ...],
    allocators: tuple[str, ...],
) -> list[Setting]:
    """Every combination of the values that were given, or of the defaults.

    Raises:
        click.UsageError: an option of the CPU with `device` cuda, or a dtype with the CPU.
    """
    if device == "cuda":
        for name, given in (("--threads", threads), ("--allocator", allocators)):
            if given:
                raise click.UsageError(
                    f"{name}: expected it with --device cpu only, got {given[0]} with --device cuda"
                )
        return [CudaSetting(dtype) for dtype in dtypes or (DTYPES[:1] if quick else DTYPES)]
    if set(dtypes) - {CpuSetting.dtype}:
        raise click.UsageError(
            f"--dtype: expected {CpuSetting.dtype} with --device cpu, got {', '.join(dtypes)}"
        )
    return [
        CpuSetting(allocator, count)
        for allocator in allocators or (("default",) if quick else tuple(ALLOCATORS))
        for count in threads or ((1,) if quick else (1, 2))
    ]


def check_gpu() -> None:
    """Raise click.ClickException, one line, unless torch sees a GPU."""
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise click.ClickException(f"--device cuda: no GPU; torch {torch.__version__} is {built}")
