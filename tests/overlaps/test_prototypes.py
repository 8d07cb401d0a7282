"""Prototypes against the embeddings of all images at once; images are real PNG folders, the backbone is a real net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from basket_softmax.data import ImageFormat, MixedBaskets, open_basket
from basket_softmax.overlaps import class_prototypes

FORMAT = ImageFormat(size=8, channels=1)


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    """a: 3 identities, b: 2; 1 to 4 images each."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, counts in {"a": (3, 1, 2), "b": (4, 1)}.items():
        for c, count in enumerate(counts):
            (root / name / f"id{c}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"id{c}" / f"{i}.png")
    return [open_basket(root / "a"), open_basket(root / "b")]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    return net.train()


@pytest.mark.parametrize(("batch_size", "workers"), [(2, 0), (100, 0), (3, 2)])
def test_means_of_unit_embeddings(baskets, batch_size, workers):
    net, seen = network(), []
    before = {name: value.clone() for name, value in net.state_dict().items()}
    got = class_prototypes(net, baskets, FORMAT, batch_size=batch_size, workers=workers, progress=seen.append)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sum(seen) == 11
    dataset = MixedBaskets(baskets, FORMAT)
    net.eval()
    with torch.no_grad():
        unit = F.normalize(net(torch.stack([dataset[i][0] for i in range(11)])).double())
    label = np.concatenate([baskets[0].labels, baskets[1].labels + 3])
    want = torch.stack([unit[label == c].mean(0) for c in range(5)])
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), want, atol=1e-6)


def test_bad_backbones_are_named(baskets):
    with pytest.raises(ValueError, match=r"backbone: expected \[6, D\] for 6 images, got \(6, 1, 8, 8\)"):
        class_prototypes(torch.nn.Identity(), baskets, FORMAT, batch_size=6)
    net = network()
    torch.nn.init.constant_(net[3].bias, float("nan"))
    with pytest.raises(ValueError, match=r"NaN or Inf for .*a/id0/0\.png"):
        class_prototypes(net, baskets, FORMAT)
