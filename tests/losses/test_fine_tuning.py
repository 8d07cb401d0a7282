"""A trained backbone with a new head: a state from which the centres were removed loads, whatever removed them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import basket_softmax as bs
from basket_softmax.compat import fastreid, insightface, pml

WIDTH = 8
Make = Callable[[int], nn.Module]

HEADS: dict[str, Make] = {
    "ArcFace": lambda c: bs.ArcFaceLoss(c, WIDTH),
    "CosFace": lambda c: bs.CosFaceLoss(c, WIDTH),
    "combined": lambda c: bs.CombinedMarginLoss(c, WIDTH),
    "SphereFace": lambda c: bs.SphereFaceLoss(c, WIDTH),
    "AdaFace": lambda c: bs.AdaFaceLoss(c, WIDTH),
    "MagFace": lambda c: bs.MagFaceLoss(c, WIDTH),
    "CurricularFace": lambda c: bs.CurricularFaceLoss(c, WIDTH),
    "sub-centres": lambda c: bs.ArcFaceLoss(c, WIDTH, subcenters=2),
    "baskets": lambda c: bs.BasketSoftmaxLoss({"a": c, "b": 3}, WIDTH),
    "Ema guard": lambda c: bs.BasketSoftmaxLoss({"a": c, "b": 3}, WIDTH, mining=bs.TopK(2, guard=bs.Ema(0.5))),
    "PartialFC_V2": lambda c: insightface.PartialFC_V2(insightface.ArcFace(), WIDTH, c),
    "EmbeddingHead": lambda c: fastreid.EmbeddingHead(
        feat_dim=WIDTH, num_classes=c, cls_type="CosSoftmax", scale=16.0, margin=0.2, with_bnneck=True
    ),
    "pml.ArcFace": lambda c: pml.ArcFaceLoss(c, WIDTH),
    "pml.CosFace": lambda c: pml.CosFaceLoss(c, WIDTH),
    "pml.SubCenterArcFace": lambda c: pml.SubCenterArcFaceLoss(c, WIDTH),
}  # fmt: skip


class Net(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, WIDTH)
        self.parts = nn.ModuleDict({"head": head})


def centres(head: nn.Module) -> str:
    return "W" if hasattr(head, "W") else "weight"


def trained(make: Make, classes: int) -> Net:
    """With other values than a new one in every buffer."""
    net = Net(make(classes))
    for buffer in net.buffers():
        buffer.fill_(0.25 if buffer.is_floating_point() else 7)
    return net


def delete(state: OrderedDict[str, Tensor], key: str) -> Any:
    del state[key]
    return state


def delete_in_a_copy(state: OrderedDict[str, Tensor], key: str) -> Any:
    return delete(copy.deepcopy(state), key)


def pick_the_others(state: OrderedDict[str, Tensor], key: str) -> Any:
    return {name: value for name, value in state.items() if name != key}


def pick_the_others_with_metadata(state: OrderedDict[str, Tensor], key: str) -> Any:
    picked = OrderedDict(pick_the_others(state, key))
    picked._metadata = state._metadata
    return picked


REMOVALS = [delete, delete_in_a_copy, pick_the_others, pick_the_others_with_metadata]


def check(net: Net, before: Net, old: Net, found: Any, missing: list[str]) -> None:
    """What is missing is as in `before`, everything else as in `old`."""
    assert found == (missing, [])
    for name, value in net.state_dict().items():
        assert torch.equal(value, (before if name in missing else old).state_dict()[name]), name


@pytest.mark.parametrize("remove", REMOVALS)
@pytest.mark.parametrize("name", HEADS)
def test_centres_that_were_removed_are_missing(name: str, remove: Callable[..., Any]) -> None:
    old, net = trained(HEADS[name], 10), Net(HEADS[name](7))
    before = copy.deepcopy(net)
    key = "parts.head." + centres(net.parts["head"])
    found = net.load_state_dict(remove(old.state_dict(), key), strict=False)
    # A plain dict does not say whose running means it has.
    unknown = ["parts.head.ema"] if name == "Ema guard" and remove is pick_the_others else []
    check(net, before, old, found, [key, *unknown])


@pytest.mark.parametrize("where", ["the model", "the head"])
@pytest.mark.parametrize("name", HEADS)
def test_centres_that_a_hook_removes_are_missing(name: str, where: str) -> None:
    old, net = trained(HEADS[name], 10), Net(HEADS[name](7))
    before = copy.deepcopy(net)
    key = "parts.head." + centres(net.parts["head"])
    owner = net if where == "the model" else net.parts["head"]
    owner.register_load_state_dict_pre_hook(lambda module, state, *rest: state.pop(key))
    check(net, before, old, net.load_state_dict(old.state_dict(), strict=False), [key])


@pytest.mark.parametrize("name", HEADS)
def test_a_head_by_itself(name: str) -> None:
    head = HEADS[name](7)
    state = HEADS[name](10).state_dict()
    del state[centres(head)]
    assert head.load_state_dict(state, strict=False) == ([centres(head)], [])
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{centres(head)}"\. $'):
        head.load_state_dict(state)


def test_running_means_of_other_baskets_are_missing_too() -> None:
    """They would fit, as there are as many; those of the same baskets load."""
    rule = bs.TopK(2, guard=bs.Ema(0.5))
    old = bs.BasketSoftmaxLoss({"a": 5, "b": 6}, WIDTH, mining=rule)
    old.ema.copy_(torch.tensor([0.25, 0.5]))
    state = old.state_dict()
    del state["weight"]
    other = bs.BasketSoftmaxLoss({"c": 5, "d": 6}, WIDTH, mining=rule)
    assert other.load_state_dict(state, strict=False) == (["weight", "ema"], [])
    assert other.ema.isinf().all()
    more = bs.BasketSoftmaxLoss({"a": 5, "b": 6, "c": 2}, WIDTH, mining=rule)
    assert more.load_state_dict(state, strict=False) == (["weight", "ema"], [])
    grown = bs.BasketSoftmaxLoss({"a": 50, "b": 6}, WIDTH, mining=rule)
    assert grown.load_state_dict(state, strict=False) == (["weight"], [])
    assert torch.equal(grown.ema, old.ema)


def test_a_plain_dict_without_centres_gives_no_running_means() -> None:
    """Nothing in it says which datasets they are of; with the centres it is taken for a state of this head."""
    rule = bs.TopK(2, guard=bs.Ema(0.5))
    old = bs.BasketSoftmaxLoss({"a": 5, "b": 6}, WIDTH, mining=rule)
    old.ema.copy_(torch.tensor([0.25, 0.5]))
    state = dict(old.state_dict())
    other = bs.BasketSoftmaxLoss({"c": 5, "d": 6}, WIDTH, mining=rule)
    assert other.load_state_dict(state) == ([], [])
    assert torch.equal(other.ema, old.ema)

    del state["weight"]
    other = bs.BasketSoftmaxLoss({"c": 5, "d": 6}, WIDTH, mining=rule)
    assert other.load_state_dict(state, strict=False) == (["weight", "ema"], [])
    assert other.ema.isinf().all()
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "weight", "ema"\. $'):
        other.load_state_dict(state)
    assert set(state) == {"ema"}


def test_a_plain_dict_without_prototypes_gives_no_links() -> None:
    """Links are rows of classes too, as those of other datasets would fit."""
    linker = bs.IdentityLinker(bs.BasketSoftmaxLoss({"a": 5, "b": 6}, WIDTH))
    state = dict(linker.state_dict())
    state["excluded"] = state["shared"] = torch.zeros(11, dtype=torch.int64)
    assert linker.load_state_dict(state) == ([], [])
    assert linker.state_dict()["shared"].eq(0).all()

    del state["prototypes"]
    other = bs.IdentityLinker(bs.BasketSoftmaxLoss({"a": 5, "b": 6}, WIDTH))
    assert set(other.load_state_dict(state, strict=False).missing_keys) == {
        "prototypes",
        "excluded",
        "shared",
    }
    assert other.state_dict()["shared"].eq(-1).all()


def test_centres_that_are_there_are_refused_with_what_to_do() -> None:
    state, net = Net(bs.ArcFaceLoss(10, WIDTH)).state_dict(), Net(bs.ArcFaceLoss(7, WIDTH))
    with pytest.raises(
        RuntimeError,
        match=r"the rows of weight are those of 10 classes, this head has 7 classes: without 'parts\.head\.weight' the "
        r"rest of the state loads, with strict=False$",
    ):
        net.load_state_dict(state, strict=False)


def test_a_hook_that_renames_does_not_pass_the_check_by() -> None:
    """As many rows, of other baskets, under a key that a hook changes."""
    head = bs.BasketSoftmaxLoss({"a": 6, "b": 4}, WIDTH)
    before = head.weight.detach().clone()
    head.register_load_state_dict_pre_hook(
        lambda module, state, *rest: state.update(weight=state.pop("kernel"))
    )
    state = bs.BasketSoftmaxLoss({"b": 4, "a": 6}, WIDTH).state_dict()
    state["kernel"] = state.pop("weight")
    with pytest.raises(RuntimeError, match="those of the baskets"):
        head.load_state_dict(state)
    assert torch.equal(head.weight, before)
    assert len(head._load_state_dict_pre_hooks) == 1
