"""The linker on people whose embeddings are known: it finds who is who, tells the head, and can be stopped anywhere."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import basket_softmax as bs
from dist.linking import SIZES, WIDTH, People, head
from losses.planted import exact

SETTINGS = {"share": 0.8, "exclude": 0.7, "every": 5}


def after(steps: int, linker: bs.IdentityLinker, people: People, first: int = 0) -> list[torch.Tensor]:
    return [linker(*people.batch(step)) for step in range(first, first + steps)]


def test_it_finds_the_people_and_nobody_else() -> None:
    people = People()
    loss = head(None)
    linker = bs.IdentityLinker(loss, **SETTINGS)
    after(40, linker, people)
    inside = people.basket != 3  # a basket of one class has no mean to take away
    found = (linker.shared[:, None] == linker.shared) & (linker.shared >= 0)[:, None]
    found.fill_diagonal_(True)
    true = people.person[:, None] == people.person
    assert torch.equal(found[inside][:, inside], true[inside][:, inside])
    assert torch.equal(loss.aliases, linker.excluded)


def test_styles_hide_people_without_centring() -> None:
    people = People()
    people.styles *= 4.0
    inside = people.basket != 3
    true = ((people.person[:, None] == people.person) & inside & inside[:, None]).triu(1)
    recall = []
    for centred in (False, True):
        linker = bs.IdentityLinker(head(None), centred=centred, **SETTINGS)
        after(30, linker, people)
        found = (linker.shared[:, None] == linker.shared) & (linker.shared >= 0)[:, None]
        recall.append(float((found & true).sum() / true.sum()))
    assert recall[0] < 0.5
    assert recall[1] > 0.9


def test_linked_classes_are_no_negatives() -> None:
    people = People()
    loss = head(None)
    linker = bs.IdentityLinker(loss, **SETTINGS)
    after(30, linker, people)
    x, labels = people.batch(99)
    value = loss(x, labels).detach()
    assert float(value) == pytest.approx(float(exact(loss, _Given(x, labels))[0]), rel=1e-5)
    assert float(value) != pytest.approx(float(exact(loss, _Given(x, labels), aliases=None)[0]), rel=1e-5)


class _Given:
    def __init__(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        self.x, self.labels = x, labels


def test_without_share_labels_are_kept() -> None:
    people = People()
    linker = bs.IdentityLinker(head(None), exclude=0.7, every=5)
    for step in range(20):
        x, labels = people.batch(step)
        assert torch.equal(linker(x, labels), labels)
    assert (linker.excluded >= 0).any()
    assert (linker.shared < 0).all()


def test_before_the_start_and_in_eval_mode_nothing_happens() -> None:
    people = People()
    linker = bs.IdentityLinker(head(None), start=8, **SETTINGS)
    after(8, linker, people)
    assert (linker.excluded < 0).all()
    seen = linker.prototypes.clone()
    linker.eval()
    x, labels = people.batch(8)
    assert torch.equal(linker(x, labels), labels)
    assert torch.equal(linker.prototypes, seen)
    assert linker.step == 8
    linker.train()
    after(1, linker, people, 8)
    assert (linker.excluded >= 0).any()


def test_local_labels_become_global_ones() -> None:
    people = People()
    loss = head(None)
    linkers = [bs.IdentityLinker(loss, **SETTINGS) for _ in range(2)]
    for step in range(12):
        x, labels = people.batch(step)
        local = loss.baskets.to_local(labels)
        given = linkers[0](x, local.labels, local.basket.clamp_min(0))
        assert torch.equal(given, linkers[1](x, labels))
    assert torch.equal(linkers[0].prototypes, linkers[1].prototypes)


def test_the_seed_decides_who_exchanges_labels() -> None:
    people = People()
    runs = [after(25, bs.IdentityLinker(head(None), seed=seed, **SETTINGS), people) for seed in (1, 1, 2)]
    same = [all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True)) for run in runs]
    assert same == [True, True, False]


def test_known_identities_stay_and_are_shared() -> None:
    people = People()
    known = torch.full((sum(SIZES),), -1)
    known[[3, 30, 50]] = 77
    loss = head(None, aliases=known)
    linker = bs.IdentityLinker(loss, **SETTINGS)
    after(25, linker, people)
    for found in (linker.excluded, linker.shared, loss.aliases):
        assert len(set(found[[3, 30, 50]].tolist())) == 1
        assert found[3] >= 0


def test_a_saved_linker_goes_on_where_it_was() -> None:
    people = People()
    linker = bs.IdentityLinker(head(None), **SETTINGS)
    after(13, linker, people)
    file = io.BytesIO()
    torch.save(linker.state_dict(), file)
    file.seek(0)
    loss = head(None)
    resumed = bs.IdentityLinker(loss, **SETTINGS)
    resumed.load_state_dict(torch.load(file))
    assert torch.equal(loss.aliases, linker.excluded)
    got, want = (after(12, one, people, 13) for one in (resumed, linker))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert torch.equal(resumed.prototypes, linker.prototypes)


def test_a_state_of_other_baskets_is_refused() -> None:
    linker = bs.IdentityLinker(head(None))
    other = bs.IdentityLinker(bs.BasketSoftmaxLoss([5, 6], WIDTH))
    with pytest.raises(RuntimeError, match="rows of prototypes are those of the baskets"):
        other.load_state_dict(linker.state_dict())


def test_a_basket_that_joins_is_linked_too() -> None:
    people = People()
    loss = head(None)
    linker = bs.IdentityLinker(loss, **SETTINGS)
    after(11, linker, people)
    links = linker.shared.clone()
    loss.add_basket("new", 20)
    after(1, linker, people, 11)
    assert torch.equal(linker.shared, torch.cat([links, torch.full((20,), -1)]))
    new = torch.arange(20) + sum(SIZES)
    for step in range(12, 60):
        x, labels = people.batch(step)
        linker(torch.cat([x, people.faces[:20] + 0.5]), torch.cat([labels, new]))
    linked = linker.shared[-20:] >= 0
    there = torch.isin(torch.arange(20), people.person[people.basket != 3])
    assert torch.equal(linked, there)


def test_its_parameters_are_not_the_heads() -> None:
    loss = head(None)
    linker = bs.IdentityLinker(loss)
    assert list(linker.parameters()) == []
    assert set(linker.state_dict()) == {"prototypes", "excluded", "shared", "_extra_state"}
    assert "start=0" in repr(linker)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": 1.5}, ValueError, r"exclude: expected a cosine in \[-1, 1\], got 1\.5"),
        ({"exclude": "much"}, TypeError, "exclude: expected a cosine"),
        ({"exclude": 0.6, "share": 0.5}, ValueError, r"share: expected exclude, 0\.6, or more, .*, got 0\.5"),
        ({"probability": -0.1}, ValueError, r"probability: expected a number in \[0, 1\], got -0\.1"),
        ({"momentum": 1.0}, ValueError, r"momentum: expected a number in \[0, 1\), got 1\.0"),
        ({"momentum": None}, TypeError, "momentum: expected a number"),
        ({"every": 0}, ValueError, "every: expected an int >= 1, got 0"),
        ({"start": -1}, ValueError, "start: expected an int >= 0, got -1"),
        ({"seed": 0.5}, ValueError, r"seed: expected an int >= 0, got 0\.5"),
    ],
)
def test_what_it_refuses(options, error, message) -> None:
    with pytest.raises(error, match=message):
        bs.IdentityLinker(head(None), **options)


def test_it_needs_a_head() -> None:
    with pytest.raises(TypeError, match="loss: expected a BasketSoftmaxLoss, got Linear"):
        bs.IdentityLinker(torch.nn.Linear(2, 2))


def test_prototypes_are_of_classes_not_of_sub_centres() -> None:
    people = People()
    linkers = [bs.IdentityLinker(head(None, subcenters=r), **SETTINGS) for r in (1, 3)]
    for step in range(12):
        x, labels = people.batch(step)
        assert torch.equal(*(linker(x, labels) for linker in linkers))
    assert torch.equal(linkers[0].prototypes, linkers[1].prototypes)
    x, labels = people.batch(50)
    linkers[1]._loss[0](x, labels).backward()


def test_a_new_basket_is_there_before_the_next_batch() -> None:
    """match() and state_dict() right after add_basket still had the old sizes."""
    people = People()
    loss = head(None)
    linker = bs.IdentityLinker(loss, **SETTINGS)
    after(10, linker, people)
    loss.add_basket("new", 4)
    state = copy.deepcopy(linker.state_dict())
    assert len(state["prototypes"]) == len(state["excluded"]) == loss.num_classes
    linker.match()
    assert len(loss.aliases) == loss.num_classes
    twin = head(None)
    behind = bs.IdentityLinker(twin, **SETTINGS)
    twin.add_basket("new", 4)
    behind.load_state_dict(state)
    assert torch.equal(behind.prototypes, linker.prototypes)


def test_means_stay_fp32_and_tables_move_along() -> None:
    linker = bs.IdentityLinker(head(None), **SETTINGS)
    means = linker.prototypes.clone()
    assert linker.to(torch.bfloat16).prototypes.dtype == torch.float32
    assert torch.equal(linker.prototypes, means)
    assert linker.double().prototypes.dtype == torch.float32
    linker.to("meta")  # stands for any other device
    assert {buffer.device.type for buffer in linker.buffers()} == {"meta"}
    assert linker._labels.members.device.type == "meta"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
def test_a_copy_with_a_hidden_head_is_refused(copied) -> None:
    with pytest.raises(TypeError, match="an IdentityLinker belongs to its loss"):
        copied(bs.IdentityLinker(head(None)))


def test_links_are_written_in_place_where_a_captured_step_needs_it() -> None:
    people = People()
    loss = head(None, aliases=torch.full((sum(SIZES),), -1))
    there = loss.aliases.data_ptr()
    linker = bs.IdentityLinker(loss, **SETTINGS)
    linker.in_place = True
    after(20, linker, people)
    assert (loss.aliases >= 0).any()
    assert loss.aliases.data_ptr() == there
