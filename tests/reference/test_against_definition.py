"""The reference against the definition in plain Python, on vectors with many exact ties."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bbs_kernels import reference
from bbs_kernels.rules import Absolute, All, Below, Own, Relative, TopK
from reference import brute

# Components whose ratios are powers of two: parallel vectors then tie to the last bit, in Python and in torch.
VECTORS = [[a, b] for a in (-2.0, -1.0, 0.0, 1.0, 2.0) for b in (-2.0, -1.0, 0.0, 1.0, 2.0)]
GUARDS = st.one_of(  # no cosine of two such vectors, nor difference of two cosines, lies within 1e-3 of these
    st.sampled_from([-0.53, 0.03, 0.53, 0.97]).map(Absolute), st.sampled_from([-0.2, 0.03, 0.47]).map(Relative)
)  # fmt: skip
RULES = st.one_of(
    st.just(All()), st.just(Own()), GUARDS.map(Below),
    st.builds(TopK, st.integers(0, 6), st.integers(0, 3), st.none() | GUARDS),
)  # fmt: skip


@settings(max_examples=500)  # cheap, and the rarer combinations of skip, alias and guard need many
@given(
    data=st.data(), mining=RULES, sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    subcenters=st.sampled_from([1, 1, 2, 3, 5]),
)  # fmt: skip
def test_every_rule(data: st.DataObject, mining, sizes: list[int], subcenters: int) -> None:
    sizes[0] = max(sizes[0], 1)
    classes = sum(sizes)
    centres = classes * subcenters
    rows = data.draw(st.integers(1, 4))
    x = data.draw(st.lists(st.sampled_from(VECTORS), min_size=rows, max_size=rows))
    w = data.draw(st.lists(st.sampled_from(VECTORS), min_size=centres, max_size=centres))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    one = st.integers(-1, 2)
    aliases = data.draw(st.none() | st.lists(one, min_size=classes, max_size=classes))
    offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])

    lse, cos_t, idx, cos = reference.cos_lse(
        torch.tensor(x, dtype=torch.float64), torch.tensor(w, dtype=torch.float64), torch.tensor(labels), offsets,
        scale=4.0, mining=mining, aliases=None if aliases is None else torch.tensor(aliases),
        subcenters=subcenters,
    )  # fmt: skip
    for i, y in enumerate(labels):
        want = brute.row(x[i], w, y, sizes, 4.0, mining, aliases, subcenters)
        torch.testing.assert_close(lse[i].item(), want.lse, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(cos_t[i].item(), want.cos_t, rtol=0.0, atol=1e-15)
        for b, mined in enumerate(want.mined):
            assert idx[i, b].tolist() == mined + [-1] * (idx.shape[2] - len(mined))
            values = [max(brute.cosine(x[i], v) for v in w[j * subcenters :][:subcenters]) for j in mined]
            values += [0.0] * (idx.shape[2] - len(mined))
            torch.testing.assert_close(cos[i, b].tolist(), values, rtol=0.0, atol=1e-15)
