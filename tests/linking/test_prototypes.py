"""Prototypes: a running mean of unit embeddings per class, whatever a batch holds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from basket_softmax.linking.prototypes import update, without_basket_mean


def expected(prototypes, embeddings, rows, momentum):
    """Class by class, in fp64."""
    result = prototypes.double().clone()
    for c in range(len(prototypes)):
        usable = [
            e.double() / e.double().norm()
            for e, r in zip(embeddings, rows.tolist(), strict=True)
            if r == c and e.isfinite().all() and e.norm() >= 1e-12
        ]
        if usable:
            kept = momentum ** len(usable)
            result[c] = kept * result[c] + (1 - kept) * torch.stack(usable).mean(0)
    return result


@settings(deadline=None, max_examples=60)
@given(
    classes=st.sampled_from([0, 1, 2, 31]),
    batch=st.sampled_from([0, 1, 7, 97]),
    momentum=st.sampled_from([0.0, 0.8, 0.99]),
    seed=st.integers(0, 99),
)
def test_rows_of_a_class_move_it_together(classes, batch, momentum, seed):
    draw = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(classes, 5, generator=draw)
    embeddings = torch.randn(batch, 5, generator=draw) * 10.0 ** torch.randint(
        -3, 4, (batch, 1), generator=draw
    )
    rows = torch.randint(-2, classes + 2, (batch,), generator=draw)  # also ones that are no class
    if batch > 3:
        embeddings[0], embeddings[1], embeddings[2, 0] = 0.0, torch.nan, torch.inf
    want = expected(prototypes, embeddings, rows, momentum)
    got = prototypes.clone()
    update(got, embeddings, rows, momentum)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-6)
    untouched = ~torch.isin(torch.arange(classes), rows)
    assert torch.equal(got[untouched], prototypes[untouched])


def test_half_precision_embeddings_are_taken_as_they_are():
    embeddings = torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)
    prototypes = torch.zeros(2, 2)
    update(prototypes, embeddings, torch.tensor([1]), 0.75)
    torch.testing.assert_close(prototypes, torch.tensor([[0.0, 0.0], [0.15, 0.2]]))


def test_what_a_basket_adds_is_taken_away():
    draw = torch.Generator().manual_seed(0)
    people = normalize(torch.randn(50, 16, generator=draw))
    bias = 2.0 * normalize(torch.randn(2, 16, generator=draw))
    prototypes = torch.cat([normalize(people + bias[0]), normalize(people + bias[1])])
    prototypes[7] = 0.0  # never seen
    centred = without_basket_mean(prototypes, torch.tensor([0, 50, 50, 100]))
    same = torch.arange(50) != 7
    plain = (prototypes[:50] * prototypes[50:]).sum(1)[same]
    better = torch.cosine_similarity(centred[:50], centred[50:])[same]
    assert (centred[7] == 0).all()
    assert better.min() > plain.max()
    seen = centred[:50][same]
    torch.testing.assert_close(seen.sum(0), torch.zeros(16), rtol=0, atol=1e-5)


def test_a_lone_class_has_no_direction_left():
    prototypes = normalize(torch.randn(3, 24, generator=torch.Generator().manual_seed(1)))
    centred = without_basket_mean(prototypes, torch.tensor([0, 1, 3]))
    assert (centred[0] == 0).all()
    assert (centred[1:].norm(dim=1) > 0.1).all()
