"""Augment: each effect against what it promises, determinism, the range, independence of the effects, messages."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from basket_softmax.data import Augment

OFF = Augment(flip=0.0)
EFFECTS = [
    "flip",
    "crop",
    "rotate",
    "brightness",
    "contrast",
    "saturation",
    "grey",
    "low_resolution",
    "erase",
]
STRENGTH = {name: 0.6 for name in EFFECTS} | {
    "rotate": 40.0,
    "flip": 1.0,
    "grey": 1.0,
    "low_resolution": 1.0,
    "erase": 1.0,
}


def picture(channels=3, height=31, width=23, seed=0):
    """Smooth, so that resampling loses little, and in the middle of the range, so that nothing is cut off."""
    coarse = torch.rand(1, channels, 5, 5, generator=torch.Generator().manual_seed(seed)) - 0.5
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0].clamp(-0.6, 0.6)


def views(augment, image, count=40):
    return [augment(image, torch.Generator().manual_seed(seed)) for seed in range(count)]


def only(name, value=None):
    return dataclasses.replace(OFF, **{name: STRENGTH[name] if value is None else value})


def test_the_default_is_a_flip_alone():
    image = picture()
    mirrored = [torch.equal(view, image.flip(-1)) for view in views(Augment(), image, 200)]
    plain = [torch.equal(view, image) for view in views(Augment(), image, 200)]
    assert sum(mirrored) + sum(plain) == 200
    assert 70 < sum(mirrored) < 130


def test_with_every_value_zero_the_image_comes_back():
    image = picture()
    assert all(torch.equal(view, image) for view in views(OFF, image, 5))


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_changes_the_image_keeps_shape_range_and_input(name):
    image = picture()
    before = image.clone()
    for view in views(only(name), image, 20):
        assert view.shape == image.shape
        assert view.dtype == torch.float32
        assert view.abs().max() <= 1.0
        assert not torch.equal(view, image)
    assert torch.equal(image, before)
    assert views(only(name), picture(1), 1)[0].shape == (1, 31, 23)
    assert views(only(name), picture(3, 1, 1), 1)[0].shape == (3, 1, 1)


def test_the_generator_decides():
    strong = Augment(0.5, 0.3, 20.0, 0.2, 0.2, 0.5, 0.1, 0.3, 0.3)
    first, again = views(strong, picture()), views(strong, picture())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(view.flatten().tolist()) for view in first}) == len(first)


@pytest.mark.parametrize("name", EFFECTS[1:])
def test_an_effect_does_not_move_the_draws_of_another(name):
    image = picture()
    both, alone = dataclasses.replace(only(name), flip=0.5), only(name)
    mirrored = [not torch.equal(view, image) for view in views(Augment(), image)]
    assert 10 < sum(mirrored) < 30
    for flipped, a, b in zip(mirrored, views(both, image), views(alone, image), strict=True):
        assert torch.equal(a, b) != flipped


def test_a_crop_is_a_window_stretched_back():
    height, width = 40, 30
    rows, columns = torch.meshgrid(
        torch.linspace(-0.9, 0.9, height), torch.linspace(-0.9, 0.9, width), indexing="ij"
    )
    image = torch.stack([rows, columns])
    for view in views(only("crop", 0.5), image):
        down, right = view[0], view[1]
        assert torch.allclose(down, down[:, :1].expand_as(down), atol=1e-5)
        steps = (down[1:, 0] - down[:-1, 0])[1:-1] / (rows[1, 0] - rows[0, 0])
        assert torch.allclose(steps, steps[0].expand_as(steps), atol=1e-3)
        assert 0.5 <= float(steps[0]) <= 1.001
        along = (right[0, 1:] - right[0, :-1])[1:-1] / (columns[0, 1] - columns[0, 0])
        assert torch.allclose(along.mean(), steps.mean(), atol=1e-3)
    corners = torch.stack([view[:, 0, 0] for view in views(only("crop", 0.5), image)])
    assert (corners.amax(0) - corners.amin(0) > 0.4).all()  # the window stands anywhere


def test_a_rotation_keeps_the_middle_and_lengths():
    size, radius = 41, 12
    for height, width in [(size, size), (size, 31)]:
        image = torch.full((1, height, width), -1.0)
        image[0, height // 2 - 1 : height // 2 + 2, width // 2 + radius - 1 : width // 2 + radius + 2] = 1.0
        angles = []
        for view in views(only("rotate", 40.0), image):
            mass = (view[0] + 1.0) / (view[0] + 1.0).sum()
            y = float((mass.sum(1) * torch.arange(height)).sum()) - height // 2
            x = float((mass.sum(0) * torch.arange(width)).sum()) - width // 2
            assert (x * x + y * y) ** 0.5 == pytest.approx(radius, abs=0.4)
            angles.append(float(torch.atan2(torch.tensor(y), torch.tensor(x)).rad2deg()))
        assert -41.0 < min(angles) < -25.0
        assert 25.0 < max(angles) < 41.0


def test_brightness_and_contrast():
    image = picture()
    shifts = []
    for view in views(only("brightness", 0.2), image):
        shift = view - image
        assert torch.allclose(shift, shift.mean().expand_as(shift), atol=1e-6)
        shifts.append(float(shift.mean()))
    assert -0.4 <= min(shifts) < -0.25
    assert 0.25 < max(shifts) <= 0.4
    ratios = []
    for view in views(only("contrast", 0.3), image):
        assert torch.allclose(view.mean(), image.mean(), atol=1e-5)
        ratio = (view - view.mean()) / (image - image.mean())
        ratios.append(float(ratio.median()))
        assert torch.allclose(view - view.mean(), ratios[-1] * (image - image.mean()), atol=1e-4)
    assert 0.7 <= min(ratios) < 0.8
    assert 1.2 < max(ratios) <= 1.3


def test_colours():
    image = picture()
    luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    for view in views(only("grey"), image, 3):
        assert torch.allclose(view, luma.expand_as(view), atol=1e-6)
    for view in views(only("saturation", 0.2), image):
        assert torch.allclose(0.299 * view[0] + 0.587 * view[1] + 0.114 * view[2], luma, atol=2e-5)
    one = picture(1)
    for name in ("grey", "saturation"):
        assert torch.equal(views(only(name), one, 1)[0], one)


def test_low_resolution_takes_detail_away():
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.5
    for view in views(only("low_resolution"), noise):
        assert view.var() < noise.var()
        assert torch.allclose(view.mean(), noise.mean(), atol=0.02)


def test_erase_covers_one_rectangle_with_the_mean():
    image = picture(3, 60, 50)
    areas = []
    for view in views(only("erase"), image):
        changed = (view != image).any(0)
        y, x = changed.nonzero().T
        inside = view[:, y.min() : y.max() + 1, x.min() : x.max() + 1]
        assert torch.allclose(inside, image.mean((1, 2), keepdim=True).expand_as(inside))
        areas.append(inside[0].numel() / image[0].numel())
    assert 0.015 < min(areas) < 0.08
    assert 0.12 < max(areas) < 0.22


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Augment)])
def test_messages(name):
    with pytest.raises(TypeError, match=f"{name}: expected a number, got '0.5'"):
        Augment(**{name: "0.5"})
    with pytest.raises(ValueError, match=rf"{name}: expected a number in \[0, .*, got -0\.1"):
        Augment(**{name: -0.1})
    with pytest.raises(ValueError, match=rf"{name}: expected a number in \[0, .*, got 181\.0"):
        Augment(**{name: 181.0})
    with pytest.raises(ValueError, match=rf"{name}: expected a number in .*, got nan"):
        Augment(**{name: float("nan")})


def test_messages_of_images():
    with pytest.raises(TypeError, match=r"image: expected float32 \[C, H, W\], got torch.uint8 \[3, 4, 4\]"):
        Augment()(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.Generator())
    with pytest.raises(TypeError, match=r"image: expected .*, got torch.float32 \[4, 4\]"):
        Augment()(torch.zeros(4, 4), torch.Generator())
    with pytest.raises(ValueError, match=r"crop: expected a number in \[0, 1\), got 1\.0"):
        Augment(crop=1.0)
