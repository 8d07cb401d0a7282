"""Rank-1 and TAR@FAR of planted embeddings, the split of identities, and sharing the work among ranks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from basket_softmax.data import ImageFormat, open_basket
from basket_softmax.training import load_run, train
from basket_softmax.training.datasets import DataError, open_datasets
from basket_softmax.training.ranks import Ranks
from basket_softmax.training.state import ResumeError
from basket_softmax.training.validate import embed, recognition_rates
from support.pair_files import write_pairs
from support.pictures import encoded


def test_planted_embeddings():
    """Identity 2's second image looks like identity 0; the pairs are counted by hand."""
    e = torch.eye(4)
    embeddings = torch.stack([e[0], e[0], e[1], e[1], e[2], F.normalize(e[0] + 0.1 * e[2], dim=0)])
    labels = np.array([0, 0, 1, 1, 2, 2])
    found = recognition_rates(embeddings, labels, (0.1, 0.2))
    assert found["rank1"] == pytest.approx(2 / 3)
    # 3 genuine pairs: 1, 1, 0.0995. 12 impostor pairs: two of 0.995, the rest 0.
    assert found["tar@0.1"] == pytest.approx(2 / 3)
    assert found["tar@0.2"] == pytest.approx(1.0)


def test_perfect_and_hopeless():
    labels = np.repeat(np.arange(5), 3)
    perfect = torch.eye(5)[torch.from_numpy(labels)]
    assert recognition_rates(perfect, labels, (0.01,)) == {"rank1": 1.0, "tar@0.01": 1.0}
    assert recognition_rates(torch.ones(15, 1), labels, (0.01,)) == {"rank1": 0.0, "tar@0.01": 0.0}


def test_more_probes_than_are_scored_at_a_time(monkeypatch):
    torch.manual_seed(0)
    labels = np.repeat(np.arange(7), 5)
    embeddings = F.normalize(torch.randn(35, 3))
    whole = recognition_rates(embeddings, labels, (0.1,))
    monkeypatch.setattr("basket_softmax.training.validate.PROBES", 4)
    assert recognition_rates(embeddings, labels, (0.1,)) == pytest.approx(whole)


def test_embed_shares_the_images_and_leaves_the_mode(folders):
    basket = open_basket(folders / "held")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 6), nn.Dropout(0.5)).train()
    image_format, cpu = ImageFormat(16, 1), torch.device("cpu")
    alone = embed(network, basket, image_format, Ranks(0, 1, cpu, None), 5, 0)
    assert network.training
    images = torch.stack([image_format(basket.image(i)) for i in range(len(basket))])
    torch.testing.assert_close(alone, F.normalize(network[1](images.flatten(1))).detach())

    class Three(Ranks):
        def from_all(self, value):
            own = [embed_part(rank) for rank in range(3)]
            assert torch.equal(own[self.rank], value)
            return own

    def embed_part(rank):
        return alone[rank::3]

    torch.testing.assert_close(embed(network, basket, image_format, Three(1, 3, cpu, None), 5, 0), alone)


def test_a_fraction_is_taken_from_identities_with_two_images(small, folders):
    config = small(validation={"fraction": 0.4, "fars": [0.1]})
    data = open_datasets(config)
    for whole, trained, apart in zip(data.sources, data.training, data.held_out, strict=True):
        assert set(trained.identities) | set(apart.identities) == set(whole.identities)
        assert not set(trained.identities) & set(apart.identities)
        assert len(apart.identities) == 2
        assert (apart.images_per_identity > 1).all()
    other = open_datasets(config.model_copy(update={"seed": 5}))
    assert [b.identities for b in other.held_out] != [b.identities for b in data.held_out]


def test_max_images_keeps_whole_identities(small, folders):
    config = small(validation={"baskets": {"held": folders / "held"}, "max_images": 11})
    (basket,) = open_datasets(config).held_out
    assert len(basket.identities) == 2
    assert (basket.images_per_identity == 4).all()
    with pytest.raises(
        DataError, match=r"validation.max_images: expected .* of basket 'held', .*, got 1 within 4"
    ):
        open_datasets(small(validation={"baskets": {"held": folders / "held"}, "max_images": 4}))


def test_mirrored_embeddings_are_added(folders):
    basket, image_format = open_basket(folders / "held"), ImageFormat(16, 1)
    network, alone = nn.Sequential(nn.Flatten(), nn.Linear(256, 6)), Ranks(0, 1, torch.device("cpu"), None)
    images = torch.stack([image_format(basket.image(i)) for i in range(len(basket))])
    want = F.normalize(network(images) + network(images.flip(3))).detach()
    torch.testing.assert_close(embed(network, basket, image_format, alone, 5, 0, mirrored=True), want)


def pair_file(path, folders):
    """Twelve pairs, every second one an image with itself."""
    basket = open_basket(folders / "held")
    images = [basket.read(0 if i % 4 < 3 else int(basket.images_of(1)[i % 3])) for i in range(24)]
    return write_pairs(path, images, [True, False] * 6)


def test_pairs_are_measured_beside_held_out_baskets_and_alone(small, folders, tmp_path):
    lfw, cfp = (pair_file(tmp_path / name, folders) for name in ("lfw.bin", "cfp.bin"))
    config = small(
        validation={"baskets": {"held": folders / "held"}, "pairs": {"lfw": lfw, "cfp": cfp}, "fars": [0.1]},
        epochs=1,
    )
    found = train(config).validation
    assert list(found) == ["step", "epoch", "rank1", "tar@0.1", "accuracy", "accuracy/lfw", "accuracy/cfp"]
    # An image has a squared distance of 0 to itself, and two images one of more than 0.01.
    assert found["accuracy"] == found["accuracy/lfw"] == found["accuracy/cfp"] == 1.0
    alone = small(validation={"pairs": {"lfw": lfw}}, epochs=1, output=tmp_path / "alone")
    assert list(train(alone).validation) == ["step", "epoch", "accuracy"]
    more = {"pairs": {"lfw": lfw, "cfp": cfp}}
    with pytest.raises(ResumeError, match=r"validation.pairs.cfp: None, now '.*cfp.bin'"):
        train(small(validation=more, epochs=1, output=alone.output), resume=True)
    moved = lfw.rename(tmp_path / "moved.bin")  # a path may change when a run goes on
    assert (
        train(small(validation={"pairs": {"lfw": moved}}, epochs=1, output=alone.output), resume=True).steps
        == 6
    )
    moved.unlink()
    assert len(load_run(alone.output).baskets) == 2  # what was only measured is not needed


def test_pair_files_that_cannot_be_used(small, tmp_path):
    file = tmp_path / "lfw.bin"
    config = small(validation={"pairs": {"lfw": file}})
    with pytest.raises(DataError, match=r"validation.pairs.lfw: .*No such file"):
        train(config)
    file.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(
        DataError, match=r"validation.pairs.lfw: .*lfw.bin is no pair file: it names os.system"
    ):
        train(config)
    write_pairs(file, [encoded(0)] * 18, [True] * 9)
    with pytest.raises(
        DataError, match=r"validation.pairs.lfw: expected 10 pairs or more, got 9 in .*lfw.bin"
    ):
        train(config)
    assert not config.output.exists()
