"""Random views of glyphs: 40 x 40 pictures to 32 x 32, as another pen, scan and camera would give them.

Each view: strokes thicker or thinner, an affine map, a smooth distortion, blur, contrast and noise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 32


def augment(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """One random view of each picture.

    Args:
        images: [N, 40, 40] uint8.
        generator: of the random numbers; the same state gives the same views.
        strength: 0 is only the resampling to 32 x 32; 1 the full range; values in between scale every effect.

    Returns:
        [N, 32, 32] uint8.
    """
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    def per_image(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    x = images.to(torch.float32).div(255.0)[:, None]
    thick, thin = F.max_pool2d(x, 3, 1, 1), -F.max_pool2d(-x, 3, 1, 1)
    kind, amount = torch.rand(n, generator=generator), per_image(strength * uniform(0.0, 0.8))
    x = torch.where(per_image(kind < 0.3), torch.lerp(x, thick, amount), x)
    x = torch.where(per_image(kind > 0.75), torch.lerp(x, thin, amount), x)

    angle, shear = strength * uniform(-0.2, 0.2), strength * uniform(-0.18, 0.18)
    wide, high = 1.0 + strength * uniform(-0.15, 0.22), 1.0 + strength * uniform(-0.15, 0.22)
    right, down = strength * uniform(-0.12, 0.12), strength * uniform(-0.12, 0.12)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * wide, (shear - sin) * high, right], 1),
        torch.stack([sin * wide, cos * high, down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 1, SIZE, SIZE], align_corners=False)
    coarse = 0.05 * strength * torch.randn(n, 2, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    x = F.grid_sample(x, grid + smooth.permute(0, 2, 3, 1), align_corners=False)

    blurred = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = torch.lerp(x, blurred, per_image(strength * uniform(-0.5, 1.0).clamp_min(0.0)))
    contrast = per_image(1.0 - strength * uniform(0.0, 0.45))
    noise = per_image(strength * uniform(0.0, 0.2)) * torch.randn(x.shape, generator=generator)
    x = x * contrast + noise + per_image(strength * uniform(0.0, 0.15))
    return x.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)[:, 0]


def views(images: Tensor, count: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Several random views of each picture: a pool to draw from while training.

    Args:
        images: [N, 40, 40] uint8.
        count: views of each.
        generator, strength: as for `augment`.

    Returns:
        [N, count, 32, 32] uint8.
    """
    return torch.stack([augment(images, generator, strength) for _ in range(count)], dim=1)
