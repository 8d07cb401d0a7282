"""One step of a head on the emulated GPU, beside the fp64 reference."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import basket_softmax as bs
from bbs_kernels import reference
from cpu.problem import make
from losses.planted import F32_MAX, Batch
from support.tolerances import (
    GRADIENT_PER_SCALE,
    TABLE,
    TIMES_EAGER,
    assert_losses,
    direction_error,
    relative_l2,
    signed_bias,
)

SIZES = (31, 17, 1, 0, 48)  # an empty basket among them
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def tf32_values(t: Tensor) -> Tensor:
    """Rounded to tf32, so that the reference and the kernels see the same operands."""
    return ((t.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """What makes fp32 products tf32 on a device."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _rows(w: Tensor) -> Tensor:
    return w


def _columns(w: Tensor) -> Tensor:
    return w.t().contiguous().t()


def _odd_rows(w: Tensor) -> Tensor:
    """Rows of a wider matrix, not on 16 bytes."""
    wide = w.new_full((len(w), w.shape[1] + 3), torch.nan)
    wide[:, 1:-2] = w
    return wide[:, 1:-2]


def _odd_columns(w: Tensor) -> Tensor:
    return _odd_rows(w.t()).t()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": _rows, "columns": _columns, "odd rows": _odd_rows, "odd columns": _odd_columns,
}  # fmt: skip


class Step(NamedTuple):
    """A head with its batch, and how they run."""

    head: bs.BasketSoftmaxLoss
    batch: Batch
    precision: str

    def dense(
        self, dtype: torch.dtype, operands: Callable[[Tensor], Tensor] = lambda t: t
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, dx and dw of the reference in `dtype`, on the values that the kernels see.

        operands: what becomes of x and w before the product.
        """
        head, (x, labels) = self.head, self.batch
        w = head.weight.detach().to(x.dtype).to(dtype).contiguous().requires_grad_()
        x = x.detach().to(dtype).contiguous().requires_grad_()
        ema = head._buffers.get("ema")
        arguments = {
            "margin": head.margin, "scale": head.scale, "mining": head.mining, "aliases": head.aliases,
            "reduction": head.reduction, "ignore_index": head.ignore_index, "subcenters": head.subcenters,
            "ema": None if ema is None else ema.to(dtype, copy=True), "training": head.training,
            "norm_limit": F32_MAX if dtype == torch.float64 else math.inf,
        }  # fmt: skip
        loss = reference.basket_softmax(operands(x), operands(w), labels, head.baskets.offsets, **arguments)
        return (loss.detach(), *torch.autograd.grad(loss.sum(), (x, w)))

    def run(self, gpu: Any, **how: Any) -> Tensor:
        """The loss, after its backward; `how` goes to `EmulatedGpu.whole_stack`."""
        self.batch.x.grad = self.head.weight.grad = None
        with matmul_precision("high" if self.precision == "tf32" else "highest"), gpu.whole_stack(**how):
            loss = self.head(*self.batch)
            loss.sum().backward()
        return loss.detach()

    def check(self, gpu: Any, **how: Any) -> None:
        """Loss and gradients against the reference; the reference comes first, since a step may move running means."""
        want, dx, dw = self.dense(torch.float64)
        _, *yardstick = self.dense(torch.float32, self._as_eager)
        loss = self.run(gpu, **how)
        assert_losses(loss, want, self.head.scale)
        for name, got, exactly, other in (
            ("dx", self.batch.x.grad, dx, yardstick[0]),
            ("dw", self.head.weight.grad, dw, yardstick[1]),
        ):
            if got is None:
                continue
            bad = exactly.isnan()
            assert torch.equal(got.isnan(), bad), f"{name}: NaN in other places"
            self._check_gradient(name, got[~bad], exactly[~bad], other[~bad])

    def _as_eager(self, t: Tensor) -> Tensor:
        """As `F.linear(F.normalize(x), F.normalize(w))` sees an operand: rounded once it is normalised."""
        if self.precision == "fp32":
            return t
        norm = torch.linalg.vector_norm(t, dim=1, keepdim=True)
        unit = torch.where(norm < reference.ZERO_NORM, 0.0, t / norm.clamp_min(reference.ZERO_NORM))
        values = unit.detach()
        rounded = (
            tf32_values(values) if self.precision == "tf32" else values.to(DTYPES[self.precision]).float()
        )
        return norm * (unit + (rounded - values))

    def _check_gradient(self, name: str, got: Tensor, want: Tensor, eager: Tensor) -> None:
        """As `assert_gradient`, with the bound for a few rows that the CPU's tests have: see GRADIENT_PER_SCALE.

        At most four roundings: where eager mines another class, it is no yardstick.
        """
        tolerance = TABLE[self.precision]
        least = max(tolerance.floor, GRADIENT_PER_SCALE * self.head.scale)
        bound = max(least, min(TIMES_EAGER * relative_l2(eager, want), 4 * least))
        ours = relative_l2(got, want)
        assert ours <= bound, f"{name}: relative L2 {ours:.3g}, allowed {bound:.3g}"
        if float(want.norm()) > 0:
            assert direction_error(got, want) <= max(tolerance.direction, bound**2), f"{name}: direction"
            bias, allowed = signed_bias(got, want), TIMES_EAGER * abs(signed_bias(eager, want))
            assert abs(bias) <= max(tolerance.bias, bound, allowed), f"{name}: bias {bias:.3g}"


def step(
    mining: Any = None,
    *,
    precision: str = "fp32",
    wide_w: bool = False,
    layout: str = "rows",
    rows: int = 21,
    depth: int = 40,
    sizes: tuple[int, ...] = SIZES,
    subcenters: int = 1,
    mates: bool = False,
    seed: int = 0,
    ignored: float = 0.16,
    **options: Any,
) -> Step:
    """A head and a batch with planted positives, copies over baskets, ties, ignored rows and spread norms.

    wide_w: fp32 centres beside 16-bit embeddings. layout: of the centres in memory. mates: aliases.
    """
    dtype = DTYPES[precision]
    problem = make(
        rows=rows, depth=depth, sizes=sizes, dtype=dtype, w_dtype=torch.float32 if wide_w else dtype, seed=seed,
        spread=0.0, ignored=ignored, mates=mates, subcenters=subcenters,
    )  # fmt: skip
    # Norms apart by powers of two: copies of a centre tie in every precision, so that all mine the same of them.
    g = torch.Generator().manual_seed(seed)
    x, w = (
        v * 2.0 ** torch.randint(-3, 4, (len(v), 1), generator=g).to(v.dtype) for v in (problem.x, problem.w)
    )
    if precision == "tf32":
        x, w = tf32_values(x), tf32_values(w)
    head = bs.BasketSoftmaxLoss(
        sizes, depth, mining=mining, aliases=problem.aliases, subcenters=subcenters, scale=32.0, **options,
    )  # fmt: skip
    # The modules keep fp32 centres; the functional form, which they go through, takes 16-bit ones and any strides.
    head.weight = nn.Parameter(LAYOUTS[layout](w))
    return Step(head, Batch(x.requires_grad_(), problem.labels), precision)


def plain(**options) -> Step:
    """Return a step that is always of the same kernels, which are compiled once."""
    return step(bs.TopK(3, 1, bs.Relative(0.1)), mates=True, **options)
