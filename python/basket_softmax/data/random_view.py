"""`Augment`: random views of one training image, each effect off unless asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"


@dataclass(frozen=True)
class Augment:
    """Random changes of one image; with every value 0 the image comes back as it is.

    flip: probability of mirroring left and right.
    crop: largest part of the sides that is cut off; the window stands anywhere and is stretched back.
    rotate: largest angle, in degrees, both ways; what comes in from outside repeats the edge.
    brightness: largest change of all pixels, in parts of the range from black to white, both ways.
    contrast: pixels are scaled about the image's mean by up to 1 ± contrast.
    saturation: colours are scaled about their grey by up to 1 ± saturation (no effect on one channel).
    grey: probability of taking the colours away (no effect on one channel).
    low_resolution: probability of shrinking to a quarter to three quarters of the size and enlarging again.
    erase: probability of covering a rectangle of 2 to 20 % of the area with the image's mean.

    Nearly every face recipe flips; AdaFace (Kim et al., 2022) adds crop, colours and low resolution, person
    re-identification adds `erase` (Zhong et al., 2017).

    Raises:
        TypeError, ValueError: not a number; a probability or part outside [0, 1]; an angle outside [0, 180].
    """

    flip: float = 0.5
    crop: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    low_resolution: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, high = getattr(self, field.name), 180.0 if field.name == "rotate" else 1.0
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{field.name}: expected a number, got {value!r}")
            if not 0.0 <= value <= high or (field.name == "crop" and value == 1.0):
                bounds = "[0, 1)" if field.name == "crop" else f"[0, {high:g}]"
                raise ValueError(f"{field.name}: expected a number in {bounds}, got {value}")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """One view.

        Args:
            image: [C, H, W] fp32 in [-1, 1]; it is not changed.
            generator: on the CPU; the same state gives the same view.

        Returns:
            [C, H, W] fp32 in [-1, 1].
        """
        if image.dtype != torch.float32 or image.dim() != 3:
            raise TypeError(f"image: expected float32 [C, H, W], got {image.dtype} {list(image.shape)}")
        # Every draw is made whatever is switched on: one effect's strength does not change another's numbers.
        draw = iter(torch.rand(_DRAWS, generator=generator).tolist())
        image = self._move(image, draw)
        image = self._blur(image, draw)
        image = self._colour(image, draw)
        return self._erase(image, draw)

    def _move(self, image: Tensor, draw: Iterator[float]) -> Tensor:
        """Flip, crop and rotation in one resampling; a flip alone moves pixels without one."""
        flip = next(draw) < self.flip
        kept = 1.0 - self.crop * next(draw)
        right, down = ((1.0 - kept) * (2.0 * next(draw) - 1.0) for _ in range(2))
        angle = math.radians(self.rotate) * (2.0 * next(draw) - 1.0)
        if self.crop == 0.0 and self.rotate == 0.0:
            return image.flip(-1) if flip else image
        _, height, width = image.shape
        cos, sin, mirror = math.cos(angle), math.sin(angle), -1.0 if flip else 1.0
        # affine_grid's axes go from -1 to 1 on both sides, so the rotation needs the ratio of the sides.
        rows = [
            [kept * cos * mirror, -kept * sin * height / width, right],
            [kept * sin * width / height * mirror, kept * cos, down],
        ]
        grid = F.affine_grid(torch.tensor([rows]), [1, *image.shape], align_corners=False)
        return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]

    def _blur(self, image: Tensor, draw: Iterator[float]) -> Tensor:
        shrink, part = next(draw) < self.low_resolution, 0.25 + 0.5 * next(draw)
        if not shrink:
            return image
        small = [max(1, round(side * part)) for side in image.shape[1:]]
        coarse = F.interpolate(image[None], small, mode="bilinear", antialias=True)
        return F.interpolate(coarse, image.shape[1:], mode="bilinear")[0]

    def _colour(self, image: Tensor, draw: Iterator[float]) -> Tensor:
        grey = next(draw) < self.grey
        saturation, contrast = (1.0 + s * (2.0 * next(draw) - 1.0) for s in (self.saturation, self.contrast))
        brightness = 2.0 * self.brightness * (2.0 * next(draw) - 1.0)  # the range is 2 wide
        if len(image) == 3 and (grey or saturation != 1.0):
            luma = torch.tensordot(image.new_tensor(_GREY), image, dims=1)
            image = torch.lerp(luma.expand_as(image), image, 0.0 if grey else saturation)
        if contrast != 1.0 or brightness != 0.0:
            mean = image.mean()
            image = (image - mean) * contrast + mean + brightness
        return image.clamp(-1.0, 1.0)

    def _erase(self, image: Tensor, draw: Iterator[float]) -> Tensor:
        erase, area, ratio = next(draw) < self.erase, 0.02 + 0.18 * next(draw), 0.3 * (1 / 0.09) ** next(draw)
        top, left = next(draw), next(draw)
        if not erase:
            return image
        _, height, width = image.shape
        high = min(height, max(1, round(math.sqrt(area * height * width * ratio))))
        wide = min(width, max(1, round(math.sqrt(area * height * width / ratio))))
        y, x = round(top * (height - high)), round(left * (width - wide))
        image = image.clone()
        image[:, y : y + high, x : x + wide] = image.mean(dim=(1, 2), keepdim=True)
        return image


_DRAWS = 16  # numbers per view: 5 to move, 2 to blur, 4 for colours, 5 to erase
