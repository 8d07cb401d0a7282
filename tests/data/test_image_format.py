"""ImageFormat: pixels against Pillow's own, colours, odd modes, the range, messages."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from basket_softmax.data import ImageFormat, UnreadableImage
from support.pictures import encoded, pixels


def saved(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def test_an_image_of_that_size_keeps_every_pixel():
    image = ImageFormat((9, 7))
    assert image.shape == (3, 9, 7)
    got = image.decode(encoded(3))
    assert (got.dtype, got.shape, got.is_contiguous()) == (torch.uint8, (3, 9, 7), True)
    assert np.array_equal(got.permute(1, 2, 0).numpy(), pixels(3))
    assert torch.equal(got, image.decode(Image.fromarray(pixels(3))))


def test_another_size_is_stretched_by_area():
    flat = np.zeros((4, 8, 3), np.uint8)
    flat[:, 4:] = 200
    got = ImageFormat((6, 2)).decode(saved(Image.fromarray(flat)))
    assert got.shape == (3, 6, 2)
    assert got[:, :, 0].max() < 40  # the anti-aliased half is nearly one colour
    assert got[:, :, 1].min() > 160


def test_normalised_range():
    image = ImageFormat((1, 3), channels=1)
    raw = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    assert torch.allclose(image.normalize(raw), torch.tensor([[[-1.0, -0.6, 1.0]]]))
    assert raw.tolist() == [[[0, 51, 255]]]
    assert torch.equal(image(encoded(1)), image.normalize(image.decode(encoded(1))))
    batch = torch.stack([raw, raw])
    assert image.normalize(batch).shape == (2, 1, 1, 3)
    with pytest.raises(TypeError, match=r"pixels: expected torch.uint8, got torch.float32"):
        image.normalize(raw.float())


def test_colour_becomes_grey_and_grey_three_equal_channels():
    grey = ImageFormat((9, 7), channels=1).decode(encoded(2))
    assert grey.shape == (1, 9, 7)
    assert np.array_equal(grey[0].numpy(), np.asarray(Image.fromarray(pixels(2)).convert("L")))
    three = ImageFormat((9, 7)).decode(encoded(2, channels=1))
    assert np.array_equal(three.numpy(), np.repeat(pixels(2, channels=1).transpose(2, 0, 1), 3, axis=0))


def test_sixteen_bits_are_scaled_not_clipped():
    deep = (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)  # 0 to 65535
    got = ImageFormat(4, channels=1).decode(saved(Image.fromarray(deep)))
    assert got.flatten().tolist() == [17 * i for i in range(16)]


def test_palette_transparency_and_photo_rotation():
    colour = pixels(4)
    clear = Image.fromarray(np.dstack([colour, np.full(colour.shape[:2], 9, np.uint8)]))
    assert np.array_equal(ImageFormat((9, 7)).decode(saved(clear)).permute(1, 2, 0).numpy(), colour)
    palette = Image.fromarray(colour).quantize(4)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(ImageFormat((9, 7)).decode(saved(palette)).permute(1, 2, 0).numpy(), expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise to see it upright
    turned = ImageFormat((7, 9)).decode(saved(Image.fromarray(colour), exif=exif))
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.rot90(colour, -1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_with_transparency_made_pillow_warn(channels):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8), "L")
    picture.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    plain, half = saved(picture), saved(picture, transparency=rng.bytes(256))
    assert isinstance(Image.open(io.BytesIO(half)).info["transparency"], bytes)
    image = ImageFormat(8, channels)
    assert torch.equal(image.decode(half), image.decode(plain))


def test_messages():
    with pytest.raises(
        UnreadableImage, match=r"x\.tif: pixels: expected 8 or 16 bits per channel, got mode 'F'"
    ):
        ImageFormat().decode(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "x.tif")
    with pytest.raises(UnreadableImage, match="image: the image cannot be read"):
        ImageFormat().decode(b"\xff\xd8nothing")
    for size in (0, -1, 1.5, True, (3,), (3, 0), "112", None):
        with pytest.raises(ValueError, match=r"size: expected a positive int or .*, got "):
            ImageFormat(size)
    with pytest.raises(ValueError, match=r"channels: expected 3 .*, got 4"):
        ImageFormat(channels=4)
    assert ImageFormat([112, 96]) == ImageFormat((112, 96))


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\x00\x00garbage", id="no header"),
        pytest.param(b"Exif\x00\x00ga", id="half a header"),
        pytest.param(b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12", id="half a table"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_data_are_passed_over(exif):
    picture = Image.fromarray(pixels(3))
    got = ImageFormat(16).decode(saved(picture, exif=exif))
    assert torch.equal(got, ImageFormat(16).decode(saved(picture)))


@pytest.mark.parametrize("largest", [65535, 1023])
def test_sixteen_bits_of_a_pgm_file(largest):
    grey = np.arange(64).reshape(8, 8) * largest // 63
    file = b"P5 8 8 %d\n" % largest + grey.astype(">u2").tobytes()
    got = ImageFormat(8, channels=1).decode(file)
    assert np.abs(got[0].numpy() - grey * 255.0 / largest).max() <= 1
