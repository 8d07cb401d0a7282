"""Calls the backward op as a case says. What the forward returned is made in NumPy from the fp64 oracle, or given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from executor import Forward
from oracle import Problem, Result, nearest
from oracle import forward as oracle_forward


class Backward(Forward):
    """One backward call with upstream gradients u [B] of the log-sum-exps and t [B] of the target cosines.

    `forward`: what the forward returned, the fp64 oracle's by default; `saved`: the tensors themselves. `limit`: bytes
    of what one run of classes holds.
    """

    def __init__(
        self,
        p: Problem,
        operand: str,
        u: np.ndarray,
        t: np.ndarray,
        *,
        need_dx: bool = True,
        need_dw: bool = True,
        limit: int = 64 << 20,
        forward: Result | None = None,
        saved: tuple[torch.Tensor, ...] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(p, operand, **options)
        self.u, self.t = u.astype(np.float32), t.astype(np.float32)
        self.need_dx, self.need_dw, self.limit = need_dx, need_dw, limit
        self.saved = saved or self._of(forward or oracle_forward(p))

    def _of(self, out: Result) -> tuple[torch.Tensor, ...]:
        """The oracle lists classes, the op their nearest centres."""
        idx = out.mined_idx.astype(np.int64)
        if self.p.subcenters > 1 and idx.size:
            rows = np.arange(len(idx))[:, None, None]
            idx = np.where(idx < 0, -1, nearest(self.p)[rows, np.maximum(idx, 0)])
        arrays = out.lse.astype("f4"), out.cos_t.astype("f4"), idx, out.mined_cos.astype("f4")
        return tuple(torch.from_numpy(a).to(self.gpu.where) for a in arrays)

    @property
    def runs(self) -> int:
        """How many runs of classes the last call had."""
        return len(self.launched("coefficients"))

    @property
    def splits(self) -> int:
        return self.launched("gradient_rows")[0].grid[2]

    @property
    def row_blocks(self) -> int:
        return self.launched("coefficients")[0].grid[0]

    def run(
        self, *, seed: int = 0, mutated: dict[str, str] | None = None, checks: dict | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """dx and dw as fp64; None where not asked for."""
        lse, cos_t, idx, cos = self.saved
        upstream = (torch.from_numpy(v).to(self.gpu.where) for v in (self.u, self.t))
        given = self.arguments()
        with self.ops(seed, mutated, checks) as ops:
            dx, dw = ops.cos_lse_backward(
                *upstream, **given, lse=lse, cos_t=cos_t, mined_idx=idx, mined_cos=cos, stash=lse.new_empty(0),
                class_index=None, need_dx=self.need_dx, need_dw=self.need_dw, workspace_bytes=self.limit,
            )  # fmt: skip
        self.gradients = dx, dw
        return (
            dx.double().cpu().numpy() if self.need_dx else None,
            dw.double().cpu().numpy() if self.need_dw else None,
        )
