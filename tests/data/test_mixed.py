"""MixedBaskets: items, views that depend on (seed, epoch, i) alone, workers, the sampler, messages."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from basket_softmax.data import (
    Augment,
    ImageFormat,
    MixedBaskets,
    MixedBasketSampler,
    UnreadableImage,
    open_basket,
)
from support.pictures import pixels, write_tree

FORMAT = ImageFormat((9, 7))
STRONG = Augment(0.5, 0.3, 20.0, 0.2, 0.2, 0.5, 0.1, 0.3, 0.3)


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    """web: 3 identities of 4 images, pictures 0 to 11; film: 2 of 5, pictures 100 to 109."""
    root = tmp_path_factory.mktemp("baskets")
    write_tree(root / "web", {f"{c}/{j}.png": 4 * c + j for c in range(3) for j in range(4)})
    write_tree(root / "film", {f"{c}/{j}.png": 100 + 5 * c + j for c in range(2) for j in range(5)})
    return [open_basket(root / "web"), open_basket(root / "film")]


def test_under_another_default_device(baskets):
    """What belongs to the data stays on the CPU; "meta" stands for any other device."""
    with torch.device("meta"):
        mixed = MixedBaskets(baskets, FORMAT)
        mixed.set_epoch(3)
        assert (mixed.epoch, len(mixed), mixed.locate(13)) == (3, 22, (1, 1))
        assert mixed.basket.tolist() == [0] * 12 + [1] * 10


def whole(dataset, **options):
    """(images, labels, baskets) of a pass in the dataset's order."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python's own, about fork in a process with threads
        return [torch.cat(column) for column in zip(*DataLoader(dataset, 4, **options), strict=True)]


def test_items(baskets):
    mixed = MixedBaskets(baskets, FORMAT)
    assert len(mixed) == 22
    assert mixed.offsets.tolist() == [0, 12, 22]
    assert mixed.basket.tolist() == [0] * 12 + [1] * 10
    assert (mixed.baskets.names, mixed.baskets.sizes) == (("web", "film"), (3, 2))
    for i, (number, label, basket) in {
        5: (5, 1, 0),
        11: (11, 2, 0),
        12: (100, 0, 1),
        21: (109, 1, 1),
    }.items():
        image, *where = mixed[i]
        assert where == [label, basket]
        expected = torch.from_numpy(pixels(number)).permute(2, 0, 1).double() / 127.5 - 1.0
        assert torch.allclose(image.double(), expected, atol=1e-6)
    with pytest.raises(IndexError, match="i: expected 0 to 21, got 22"):
        mixed[22]


def test_a_view_depends_on_seed_epoch_and_image_alone(baskets):
    mixed = MixedBaskets(baskets, FORMAT, STRONG, seed=3)
    mixed.set_epoch(2)
    expected = whole(mixed)[0]
    backwards = torch.stack([mixed[i][0] for i in reversed(range(22))]).flip(0)
    assert torch.equal(backwards, expected)
    again = MixedBaskets(baskets, FORMAT, STRONG, seed=3)
    first = whole(again)[0]
    again.set_epoch(2)
    assert again.epoch == 2
    assert torch.equal(whole(again)[0], expected)
    assert all(not torch.equal(a, b) for a, b in zip(first, expected, strict=True))
    other = MixedBaskets(baskets, FORMAT, STRONG, seed=4)
    other.set_epoch(2)
    assert all(not torch.equal(a, b) for a, b in zip(whole(other)[0], expected, strict=True))


def test_workers_that_persist_follow_the_epoch(baskets):
    mixed = MixedBaskets(baskets, FORMAT, STRONG, seed=3)
    expected = []
    for epoch in range(3):
        mixed.set_epoch(epoch)
        expected.append(whole(mixed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(mixed, 4, num_workers=2, persistent_workers=True, multiprocessing_context="fork")
        for epoch in (1, 0, 2):
            mixed.set_epoch(epoch)
            columns = [torch.cat(column) for column in zip(*loader, strict=True)]
            assert all(torch.equal(a, b) for a, b in zip(columns, expected[epoch], strict=True))


@pytest.mark.slow
def test_spawned_workers_see_the_same(baskets):
    mixed = MixedBaskets(baskets, FORMAT, STRONG, seed=3)
    mixed.set_epoch(1)
    got = whole(mixed, num_workers=2, multiprocessing_context="spawn")
    assert all(torch.equal(a, b) for a, b in zip(got, whole(mixed), strict=True))


def test_with_the_sampler_and_the_loss(baskets):
    import basket_softmax as bs

    mixed = MixedBaskets(baskets, FORMAT, Augment())
    sampler = MixedBasketSampler(mixed.basket, 8, [1, 1])
    loss = bs.BasketSoftmaxLoss(mixed.baskets, embedding_size=9 * 7 * 3)
    for images, labels, basket in DataLoader(mixed, batch_sampler=sampler):
        assert (images.dtype, labels.dtype, basket.dtype) == (torch.float32, torch.int64, torch.int64)
        assert np.bincount(basket.numpy()).tolist() == [4, 4]
        assert loss(images.flatten(1), labels, basket=basket).isfinite()


def test_a_damaged_image_is_named_through_a_worker(tmp_path):
    basket = open_basket(write_tree(tmp_path, {"anna/1.png": 1, "anna/2.png": b"cut"}))
    with pytest.raises(UnreadableImage, match=r"anna/2\.png: the image cannot be read"):
        whole(MixedBaskets([basket], FORMAT), num_workers=1, multiprocessing_context="fork")


def test_messages(baskets):
    with pytest.raises(ValueError, match="baskets: expected at least one, got none"):
        MixedBaskets([], FORMAT)
    with pytest.raises(TypeError, match=r"baskets\[1\]: expected an ImageBasket, got str"):
        MixedBaskets([baskets[0], "film"], FORMAT)
    with pytest.raises(ValueError, match="baskets: expected different names, got 'web', 'web'"):
        MixedBaskets([baskets[0], baskets[0]], FORMAT)
    with pytest.raises(ValueError, match="seed: expected an int >= 0, got -1"):
        MixedBaskets(baskets, FORMAT, seed=-1)
    with pytest.raises(ValueError, match=r"epoch: expected an int >= 0, got 0\.5"):
        MixedBaskets(baskets, FORMAT).set_epoch(0.5)
