"""IResNet's shapes and sizes, and what is said of a factory that does not fit."""

import sys
import types

import pytest
import torch
from torch import nn

from basket_softmax.training.backbones import (
    BackboneError,
    iresnet,
    iresnet18,
    iresnet50,
    iresnet100,
    make_backbone,
)

OURS = "basket_softmax.training.backbones:iresnet"


@pytest.mark.parametrize(("make", "millions"), [(iresnet18, 24.0), (iresnet50, 43.6), (iresnet100, 65.2)])
def test_sizes_are_those_of_the_field(make, millions):
    """The numbers of parameters of insightface's networks of these names."""
    with torch.device("meta"):
        network = make(512, 3, (112, 112))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (112, 96)])
def test_any_size(size):
    network = iresnet(7, 1, size, layers=(1, 2), width=2).eval()
    assert network(torch.zeros(3, 1, *size)).shape == (3, 7)


def test_trains_in_every_part():
    network = iresnet(5, 3, (16, 16), layers=(2, 1), width=3, dropout=0.1)
    (network(torch.randn(4, 3, 16, 16)) * torch.randn(5)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_embeddings_stay_in_fp32_under_autocast():
    network = iresnet(5, 3, (16, 16), layers=(1,), width=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.randn(4, 3, 16, 16)).dtype == torch.float32


@pytest.mark.parametrize("changes", [{"layers": ()}, {"layers": (1, 0)}, {"width": 0}, {"dropout": 1.0}])
def test_wrong_numbers(changes):
    with pytest.raises(BackboneError, match=r"expected .*, got "):
        make_backbone(OURS, 8, 3, (16, 16), changes)


@pytest.fixture
def module(monkeypatch):
    """A module of the user's."""
    module = types.ModuleType("their_nets")
    monkeypatch.setitem(sys.modules, "their_nets", module)
    return module


def test_a_factory_gets_what_it_takes(module):
    module.linear = lambda embedding_size, hidden: nn.Sequential(
        nn.Flatten(), nn.Linear(48, hidden), nn.Linear(hidden, embedding_size)
    )
    network = make_backbone("their_nets:linear", 8, 3, (4, 4), {"hidden": 5})
    assert network.training
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 8)
    seen = {}

    def curious(**options):
        seen.update(options)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 8))

    module.curious = curious
    make_backbone("their_nets:curious", 8, 3, (4, 4), {"x": 1})
    assert seen == {"embedding_size": 8, "channels": 3, "image_size": (4, 4), "x": 1}


@pytest.mark.parametrize(
    ("factory", "args", "message"),
    [
        ("no_such_module:net", {}, "backbone.factory is 'no_such_module:net': No module named 'no_such_module'"),
        ("their_nets:net", {}, "their_nets has no 'net'"),
        ("their_nets:number", {}, "'number' cannot be called"),
        ("their_nets:nothing", {}, "expected an nn.Module from their_nets:nothing, got NoneType"),
        ("their_nets:wide", {}, r"expected .*, \(2, 8\) of 2 images, from their_nets:wide, got \(2, 9\)"),
        ("their_nets:narrow", {}, r"does not take images \[3, 4, 4\]"),
        (OURS, {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("timm:resnet10t", {}, "needs timm: pip install timm"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(module, monkeypatch, factory, args, message):
    module.number = 3
    module.nothing = lambda embedding_size: None
    module.wide = lambda embedding_size: nn.Sequential(nn.Flatten(), nn.Linear(48, 9))
    module.narrow = lambda embedding_size: nn.Linear(3, 8)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BackboneError, match=message):
        make_backbone(factory, 8, 3, (4, 4), args)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_iresnet_in_another_dtype(dtype):
    network = iresnet(5, 3, (16, 16), layers=(1,), width=2).to(dtype)
    assert network(torch.randn(4, 3, 16, 16, dtype=dtype)).dtype == dtype
