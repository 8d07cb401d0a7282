"""The tolerance table: how far a backend may be from the fp64 reference, and how that is measured.

Losses have an absolute bound. Gradients are bounded by twice the error that eager PyTorch makes in the same
precision on the same data, with a floor; direction and signed bias are bounded besides, since a relative
error alone lets a systematic shrinking through.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """floor: relative L2 error always allowed. direction: largest 1 - cosine. bias: largest |slope - 1|."""

    floor: float
    direction: float
    bias: float


# One rounding of the result is in the 16-bit floors: 2^-11 (fp16, tf32 operands) and 2^-8 (bf16).
TABLE = {
    "fp64": Tolerance(floor=1e-12, direction=1e-12, bias=1e-12),
    "fp32": Tolerance(floor=2e-6, direction=1e-9, bias=5e-6),
    "tf32": Tolerance(floor=2**-11, direction=1e-5, bias=5e-4),
    "fp16": Tolerance(floor=2**-11, direction=1e-5, bias=5e-4),
    "bf16": Tolerance(floor=2**-8, direction=1e-4, bias=2e-3),
}
PRECISION = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}
# The CPU computes 16-bit problems in fp32 on the rounded values and rounds each gradient once: tighter than the above.
ROUNDED_ONCE = Tolerance(floor=TABLE["fp32"].floor, direction=1e-5, bias=2e-4)
ROUNDING = {
    "fp64": 0.0,
    "fp32": 0.0,
    "fp16": 2**-11,
    "bf16": 2**-8,
}  # one rounding of a gradient to its dtype
COSINE = {"fp64": 1e-13, "fp32": 6e-7}  # absolute, by the precision of the result
FP64_OVER_FP32 = 1e-6  # an fp64 loss has this part of the fp32 loss's bound
GRADIENT_PER_SCALE = 2e-7  # of s: the same rounding in the exponent of a gradient, where a few rows decide
TIMES_EAGER = 2.0
KERNEL_COSINE = 2e-6  # absolute, of a cosine that a CUDA kernel sums in fp32 from operands given exactly
# Tensor cores truncate partial sums, always towards 0: an absolute error of a cosine that grows with the width. A model
# of them gives 4.4e-6 at 512 and 9e-6 at 1024.
TRUNCATION_PER_WIDTH = 1e-8
TENSOR_CORES = ("tf32", "fp16", "bf16")
MARGIN_SLOPE = 2.0  # of psi: sin(theta + m) / sin(theta), at target cosines below 0.9 and margins up to 0.5
LOSS_RELATIVE = 1e-6  # of max(1, loss)
LOSS_PER_SCALE = 4e-7  # of s * (1 - e^-loss): a cosine's rounding, seen through the slope of the loss


def loss_bound(want: Tensor, scale: float) -> Tensor:
    """1e-6 * max(1, loss) + 4e-7 * s * (1 - e^-loss), for an fp32 loss whose exact value is `want`."""
    return LOSS_RELATIVE * want.clamp_min(1.0) + LOSS_PER_SCALE * scale * -torch.expm1(-want)


def cosine_bound(precision: str, width: int) -> float:
    """Absolute error allowed to a cosine of two rows of `width` elements from a CUDA kernel."""
    truncated = TRUNCATION_PER_WIDTH * width if precision in TENSOR_CORES else 0.0
    return max(KERNEL_COSINE, truncated)


def exponent_error(precision: str, width: int, scale: float) -> float:
    """Relative error of a probability from that of its cosine, see `gradient_bound`."""
    truncated = TRUNCATION_PER_WIDTH * width if precision in TENSOR_CORES else 0.0
    return scale * max(GRADIENT_PER_SCALE, truncated)


def device_loss_bound(want: Tensor, scale: float, cosine: float) -> Tensor:
    """`loss_bound`, plus what an error of `cosine` in every cosine does to a loss whose exact value is `want`."""
    return loss_bound(want, scale) + (1.0 + MARGIN_SLOPE) * scale * cosine * -torch.expm1(-want)


def precision_of(dtype: torch.dtype) -> str:
    """The row of the table for results of this dtype: 16-bit operands have fp32 losses and cosines."""
    return "fp64" if dtype == torch.float64 else "fp32"


def relative_l2(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want||; the plain norm of the error where `want` is 0."""
    error, norm = float((got.double() - want.double()).norm()), float(want.double().norm())
    return error / norm if norm > 0 else error


def direction_error(got: Tensor, want: Tensor) -> float:
    """1 - cosine between the two, as flat vectors."""
    a, b = got.double().flatten(), want.double().flatten()
    # Half the squared distance of the unit vectors: 1 - <a, b> would cancel.
    return float(0.5 * (a / a.norm() - b / b.norm()).square().sum())


def signed_bias(got: Tensor, want: Tensor) -> float:
    """Slope of `got` over `want` minus 1: negative where a gradient is systematically too small."""
    a, b = got.double().flatten(), want.double().flatten()
    return float((a @ b) / (b @ b) - 1.0)


def assert_losses(got: Tensor, want: Tensor, scale: float) -> None:
    """fp32 losses against exact ones; NaN in the same places."""
    assert torch.equal(got.isnan(), want.isnan()), "loss: NaN in other places"
    excess = ((got.double() - want).abs() - loss_bound(want, scale)).nan_to_num(0.0)
    assert (excess <= 0).all(), f"loss: off by {excess.max():.3g} beyond the tolerance"


def gradient_bound(precision: str, eager: float, exponent: float = 0.0) -> float:
    """Relative L2 error allowed to a gradient where eager PyTorch's is `eager`.

    exponent: relative error allowed besides: of a cosine in fp32, times the scale.
    """
    return max(TABLE[precision].floor, TIMES_EAGER * eager) + exponent


def assert_gradient(
    name: str, got: Tensor, want: Tensor, eager: Tensor, precision: str, exponent: float = 0.0
) -> None:
    """`got` against the exact `want`, with the error of `eager` in the same precision as the yardstick."""
    tolerance = TABLE[precision]
    ours, theirs = relative_l2(got, want), relative_l2(eager, want)
    bound = gradient_bound(precision, theirs, exponent)
    assert ours <= bound, f"{name}: relative L2 {ours:.3g}, allowed {bound:.3g} (eager {theirs:.3g})"
    if float(want.norm()) > 0:
        direction, bias = direction_error(got, want), signed_bias(got, want)
        assert direction <= max(tolerance.direction, bound**2), f"{name}: 1 - cosine is {direction:.3g}"
        allowed = max(tolerance.bias, TIMES_EAGER * abs(signed_bias(eager, want))) + exponent
        assert abs(bias) <= allowed, f"{name}: bias {bias:.3g}"
