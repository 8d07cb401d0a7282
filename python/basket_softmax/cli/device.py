"""The option that names a device, checked before a command begins."""

from __future__ import annotations

import click


def known_device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return a device that torch has; a usage error otherwise. A callback of click."""
    kind, _, number = value.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or value in ("cpu:", "cuda:"):
        raise click.BadParameter(f"{value!r} is not cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= gpus:
            raise click.BadParameter(f"{value!r}: torch sees {gpus} GPUs here")
    return value
