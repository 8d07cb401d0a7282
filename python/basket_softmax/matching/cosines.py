"""Cosines of class centres in two ways: whole tiles fast with a bound on their error, chosen pairs exactly.

A tile is a matrix product of unit rows rounded to bfloat16 where the processor multiplies it natively (about five
times as fast as fp32 with AVX512-BF16), else to fp32. For unit rows u and their rounded copies v

    |<v_i, v_j> - <u_i, u_j>| <= |v_i - u_i| |v_j| + |u_i| |v_j - u_j| <= r (2 + r),   r = max |v - u|,

and a sum of D products in fp32, in any order, with any faithful rounding, is off by at most D 2^-23 (1 + r)^2 (Higham,
*Accuracy and Stability of Numerical Algorithms*, section 3.1). r is measured on the rows, not assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbs_kernels.ops.precision import cpu_lowers_fp32

ROWS_AT_A_TIME = 1 << 14  # of fp64 work space: 16 MB at D = 128
SMALLEST_NORM = 1e-12  # a shorter centre has no direction, as in the loss
SLACK = 1e-7  # more than the rounding of `exact` to fp32, 2^-24, and what bfloat16 flushes to zero


class Cosines:
    """Centres [C, D] of any floating dtype, on the CPU, each with a direction (norm >= 1e-12).

    Attributes:
        coarse_error: bound on |tile - exact| before the tile's own rounding to its dtype.
        fine_error: the same for tiles in fp64.
    """

    def __init__(self, centres: Tensor, coarse: torch.dtype | None = None) -> None:
        self.centres = centres
        depth = centres.shape[1]
        self.coarse = torch.empty(centres.shape, dtype=coarse or fastest_dtype())
        self._inverse = torch.empty(len(centres), dtype=torch.float64)
        # torch may multiply fp32 in bfloat16 when the precision of fp32 products is lowered: bound that.
        lowered = self.coarse.dtype == torch.float32 and cpu_lowers_fp32()
        distance = 0.0
        for first in range(0, len(centres), ROWS_AT_A_TIME):
            part = slice(first, first + ROWS_AT_A_TIME)
            rows = centres[part].double()
            self._inverse[part] = rows.square().sum(1).sqrt().reciprocal()
            unit = rows * self._inverse[part, None]
            self.coarse[part] = unit.to(self.coarse.dtype)
            rounded = self.coarse[part].bfloat16() if lowered else self.coarse[part]
            distance = max(distance, float((rounded.double() - unit).square().sum(1).max().sqrt()))
        self.coarse_error = distance * (2 + distance) + depth * 2.0**-23 * (1 + distance) ** 2 + SLACK
        self.fine_error = depth * 2.0**-51 + SLACK

    def tile(self, rows: slice, columns: slice, out: Tensor) -> Tensor:
        """[rows, columns] in the coarse dtype, in the memory of the flat `out`."""
        a, b = self.coarse[rows], self.coarse[columns]
        tile = out[: len(a) * len(b)].view(len(a), len(b))
        return torch.mm(a, b.t(), out=tile)

    def fine_tile(self, rows: slice, columns: slice) -> Tensor:
        """[rows, columns] in fp64."""
        a, b = (self.centres[part].double() * self._inverse[part, None] for part in (rows, columns))
        return a @ b.t()

    def exact(self, first: Tensor, second: Tensor) -> Tensor:
        """[n] cosines of pairs of classes [n], from fp64, rounded to fp32, so that multiples of one centre tie.

        The bits depend on the two centres alone, in either order.
        """
        values = torch.empty(len(first), dtype=torch.float64)
        for part in range(0, len(first), ROWS_AT_A_TIME):
            span = slice(part, part + ROWS_AT_A_TIME)
            i, j = first[span], second[span]
            products = self.centres[i].double().mul_(self.centres[j].double())
            values[span] = products.sum(1) * (self._inverse[i] * self._inverse[j])
        return values.float().double()


def fastest_dtype() -> torch.dtype:
    """bfloat16 where the processor has instructions that multiply it, else fp32."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch since 2.10
    native = known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def with_direction(centres: Tensor) -> Tensor:
    """[C] bool: rows with a norm of at least 1e-12.

    Raises:
        ValueError: a row holds NaN or Inf, or its squared norm overflows fp64.
    """
    norms = torch.cat(
        [part.double().square().sum(1).sqrt() for part in centres.split(ROWS_AT_A_TIME)]
        or [torch.empty(0, dtype=torch.float64)]
    )
    wrong = ~norms.isfinite()
    if bool(wrong.any()):
        raise ValueError(
            f"centres: expected finite values, got {int(wrong.sum())} of {len(norms)} rows with a norm that is not "
            f"finite, the first is row {int(wrong.nonzero()[0])}"
        )
    return norms >= SMALLEST_NORM
