"""`ImageFormat`: from an encoded image to the tensor that a backbone takes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .extras import optional, pil_image

if TYPE_CHECKING:
    from PIL import Image


_ORIENTATION = 0x0112  # EXIF


class UnreadableImage(OSError):
    """An image that is missing or damaged; the message says where it is and what is wrong."""


def parse_image(data: bytes, *, pixels: bool = True) -> Image.Image:
    """The image in an encoded file; without `pixels` only the header is read.

    Raises:
        UnreadableImage: what is wrong, without a place.
    """
    pil = pil_image()
    try:
        image = pil.open(io.BytesIO(data))
        if pixels:
            image.load()
    except pil.UnidentifiedImageError:
        what = f"no known image format in its {len(data):,} bytes" if data else "it is empty"
        raise UnreadableImage(what) from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        pil.DecompressionBombError,
    ) as error:  # what Pillow's decoders raise
        raise UnreadableImage(str(error)) from error
    return image


def open_image(read: Callable[[], bytes], where: str) -> Image.Image:
    """Decode what `read` gives; an UnreadableImage names `where` when either fails."""
    try:
        return parse_image(read())
    except OSError as error:
        raise UnreadableImage(f"{where}: the image cannot be read: {reason(error)}") from error


def _is_rotated(picture: Image.Image) -> bool:
    try:
        return picture.getexif().get(_ORIENTATION, 1) != 1
    except (OSError, SyntaxError, ValueError, struct.error):  # what Pillow raises for damaged EXIF data
        return False


def upright_8_bit(picture: Image.Image, where: str = "image") -> Image.Image:
    """The picture as its photographer saw it, with 8 bits per channel: what a network and a person are shown.

    Raises:
        UnreadableImage: pixels of a type without a fixed range (32-bit integer, float).
    """
    unusable = pixel_problem(picture)
    if unusable is not None:
        raise UnreadableImage(f"{where}: {unusable}")
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        picture = picture.copy()  # Pillow warns of what is wanted here, that transparency is dropped
        del picture.info["transparency"]
    sixteen = _is_16_bit(picture)
    if _is_rotated(picture):
        picture = optional("PIL.ImageOps", "pillow", "reading images").exif_transpose(picture)
    if sixteen:
        return pil_image().fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture


def pixel_problem(picture: Image.Image) -> str | None:
    """What stands against pixels of this type, from the header alone; None if they can be used."""
    if picture.mode in ("I", "F") and not _is_16_bit(picture):
        return f"pixels: expected 8 or 16 bits per channel, got mode {picture.mode!r}"
    return None


def _is_16_bit(picture: Image.Image) -> bool:
    """PNG: Pillow 10; PPM: PGM files, which Pillow scales to 16 bits whatever their largest value."""
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))


def reason(error: OSError) -> str:
    """What went wrong, without the path that the system's errors carry."""
    return error.strerror or str(error)


@dataclass(frozen=True)
class ImageFormat:
    """Size and colours of what the backbone takes.

    size: side in pixels of a square, or (height, width). Images of another size are resampled to it (bilinear,
        anti-aliased), without keeping the proportions: nothing is cropped.
    channels: 3 for RGB (in this order, as insightface trains), 1 for grey.

    Raises:
        ValueError: a size that is not positive, channels other than 1 and 3.
    """

    size: int | tuple[int, int] = 112
    channels: int = 3

    def __post_init__(self) -> None:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        whole = isinstance(sides, (tuple, list)) and all(type(side) is int and side > 0 for side in sides)
        if not whole or len(sides) != 2:
            raise ValueError(f"size: expected a positive int or (height, width), got {self.size!r}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels: expected 3 (RGB) or 1 (grey), got {self.channels!r}")
        object.__setattr__(self, "size", self.size if isinstance(self.size, int) else tuple(self.size))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size))

    def decode(self, image: Image.Image | bytes, where: str = "image") -> Tensor:
        """Pixels in this format.

        The rotation in a photo's EXIF data is applied (damaged EXIF data are passed over), transparency dropped,
        16-bit grey scaled to 8 bits.

        Args:
            image: a Pillow image, or the bytes of an encoded one.
            where: named in the message when it cannot be read.

        Returns:
            [C, H, W] uint8.

        Raises:
            UnreadableImage: damaged bytes, or pixels of a type without a fixed range (32-bit integer, float).
        """
        picture = open_image(lambda: image, where) if isinstance(image, bytes) else image
        picture = upright_8_bit(picture, where).convert("RGB" if self.channels == 3 else "L")
        _, height, width = self.shape
        if picture.size != (width, height):
            picture = picture.resize((width, height), pil_image().Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1).contiguous()

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 of any shape -> fp32 in [-1, 1], the range that insightface trains in: x / 127.5 - 1."""
        if pixels.dtype != torch.uint8:
            raise TypeError(f"pixels: expected torch.uint8, got {pixels.dtype}")
        return pixels.to(torch.float32).div_(127.5).sub_(1.0)

    def __call__(self, image: Image.Image | bytes, where: str = "image") -> Tensor:
        """`decode`, then `normalize`: [C, H, W] fp32 in [-1, 1]."""
        return self.normalize(self.decode(image, where))
