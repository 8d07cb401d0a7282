"""The mined pairs of lse.py: a gather and a scatter, where a product with all classes would be mostly zeros.

On the CPU alone, where adding up rows by index runs in order and so gives the same bits on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..normalize import gradient_through_norm, normalize

BLOCK = 1 << 19  # numbers of gathered centres at a time


class MinedPairs:
    """rows, positions [P]: the pairs in order of rows; a position is a place in the list of classes taking part."""

    def __init__(self, mined: Tensor, function: Callable[..., Tensor], scale: float) -> None:
        self.rows, slots = torch.nonzero(mined >= 0, as_tuple=True)
        self.positions = mined[self.rows, slots]
        self.function, self.scale = function, scale

    def add_to(
        self,
        top: Tensor,
        total: Tensor,
        x_hat: Tensor,
        centres: Callable[[Tensor], Tensor],
        parameters: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The log-sum-exp state (top, total) [B] with the pairs in it; `centres` gives [n, D] at positions."""
        logits = []
        for rows, positions in self._parts(x_hat):
            w_hat, _ = normalize(centres(positions))
            cos = (x_hat[rows] * w_hat).sum(dim=1, keepdim=True)
            logits.append(self.scale * self.function(cos, *(p[rows, None] for p in parameters))[:, 0])
        if not logits:
            return top, total
        z = torch.cat(logits)
        now = top.scatter_reduce(0, self.rows, z, "amax")
        safe = torch.where(now.isinf(), 0.0, now)  # or inf - inf would be NaN
        total = total * torch.exp((top - safe).double())
        return now, total.index_add(0, self.rows, torch.exp(z - safe[self.rows]).double())

    def gradients(
        self,
        upstream: Tensor,
        lse: Tensor,
        x_hat: Tensor,
        centres: Callable[[Tensor], Tensor],
        parameters: list[Tensor],
        dx: Tensor,
        dw: Tensor | None,
        grad_parameters: dict[int, Tensor],
    ) -> None:
        """Adds to dx (of the unit rows), dw (of the centres) and the parameters' gradients, in place."""
        for rows, positions in self._parts(x_hat):
            w_hat, w_inverse = normalize(centres(positions))
            of_row = x_hat[rows]
            with torch.enable_grad():
                cos = (of_row * w_hat).sum(dim=1, keepdim=True).requires_grad_()
                own = [p[rows, None].requires_grad_(n in grad_parameters) for n, p in enumerate(parameters)]
                mapped = self.function(cos, *own)
            weight = torch.exp(self.scale * mapped.detach() - lse[rows, None]) * (
                self.scale * upstream[rows, None]
            )
            inputs = [cos, *(own[n] for n in grad_parameters)]
            gradient, *others = torch.autograd.grad(
                mapped, inputs, weight, allow_unused=True, materialize_grads=True
            )
            for n, part in zip(grad_parameters, others, strict=True):
                grad_parameters[n].index_add_(0, rows, part[:, 0])
            dx.index_add_(0, rows, gradient * w_hat)
            if dw is not None:
                dw.index_add_(0, positions, gradient_through_norm(gradient * of_row, w_hat, w_inverse))

    def _parts(self, x_hat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        step = max(1, BLOCK // x_hat.shape[1])
        yield from zip(self.rows.split(step), self.positions.split(step), strict=True)
