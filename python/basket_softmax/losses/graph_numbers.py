"""The numbers of a head that may change from step to step, as an input of a graph that `torch.compile` makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bbs_kernels.margins import family_arguments


def graph_numbers(scale: float, margin: Any) -> Tensor:
    """[4] fp64 on the CPU: scale, m1, m2, m3; the margin's are 0 where it is none of the combined family.

    A new tensor for every change, so that a step whose forward has run ends its backward with the old values.
    """
    family = family_arguments(margin)
    values = (scale, *((0.0, 0.0, 0.0) if family is None else family[:3]))
    if torch.is_inference_mode_enabled():  # a tensor made there cannot be saved for a backward pass
        with torch.inference_mode(False):
            return torch.tensor(values, dtype=torch.float64, device="cpu")
    return torch.tensor(values, dtype=torch.float64, device="cpu")
