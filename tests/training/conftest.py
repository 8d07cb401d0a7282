"""Glyph folders and a config that trains on them in a few seconds."""

from pathlib import Path

import pytest

from basket_softmax.training import make_config
from training.glyph_folders import write_baskets


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Path:
    """basket0, basket1 and held, see `write_baskets`."""
    folder = tmp_path_factory.mktemp("glyphs")
    write_baskets(folder)
    return folder


@pytest.fixture
def small(folders, tmp_path):
    """Makes a config; keys with __ for the dots."""

    def make(**changes):
        values = {
            "baskets": {"one": folders / "basket0", "two": folders / "basket1"},
            "output": tmp_path / "out",
            "image": {"size": 16, "channels": 1},
            "backbone": {
                "factory": "basket_softmax.training.backbones:iresnet",
                "embedding_size": 8,
                "args": {"layers": [1], "width": 4},
            },
            "loss": {"mining": {"name": "topk", "k": 3}, "scale": 16.0},
            "epochs": 2,
            "batch_size": 8,
            "workers": 0,
            "log": {"every_steps": 2, "tensorboard": False},
        }
        return make_config(values, {key.replace("__", "."): value for key, value in changes.items()})

    return make
