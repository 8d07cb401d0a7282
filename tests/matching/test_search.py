"""The search against all cosines in fp64: the same pairs, whatever the tiles, the screen and the data."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import basket_softmax as bs
from basket_softmax.matching import comparisons, cosines, mutual_nearest, mutual_nearest_within, nearest, scan
from overlaps.planted import centres, dense

SIZES = (31, 0, 97, 1, 64, 33)


def as_dict(pairs) -> dict[tuple[int, int], float]:
    assert len(set(zip(*pairs[:2], strict=True))) == len(pairs.first)
    return {(int(i), int(j)): float(c) for i, j, c in zip(*pairs, strict=True)}


SEARCHES = {
    "each": mutual_nearest,
    "all": lambda *a, **options: mutual_nearest(*a, per_basket=False, **options),
    "within": mutual_nearest_within,
}


def agree(x, offsets, kind="each", minimum=-1.0, subcenters=1) -> None:
    got = as_dict(SEARCHES[kind](x, offsets, minimum=minimum, subcenters=subcenters))
    want = dense(x, offsets, kind, minimum, subcenters)
    assert got.keys() == want.keys()
    for pair, cosine in want.items():
        assert got[pair] == pytest.approx(cosine, abs=2e-7)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(scan, "TILE", 40)  # so that a basket of 97 is three tiles, the last not full
    monkeypatch.setattr(nearest, "HITS_AT_A_TIME", 17)
    monkeypatch.setattr(cosines, "ROWS_AT_A_TIME", 29)


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("coarse", [torch.bfloat16, torch.float32])
def test_finds_the_pairs_of_the_definition(monkeypatch, kind, dtype, coarse):
    monkeypatch.setattr(cosines, "fastest_dtype", lambda: coarse)
    x, offsets = centres(SIZES, 24, dtype=dtype)
    agree(x, offsets, kind)


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("coarse", [torch.bfloat16, torch.float32])
def test_autocast_around_the_search_changes_nothing(monkeypatch, kind, dtype, coarse):
    """With fp16 it was an error inside torch."""
    monkeypatch.setattr(cosines, "fastest_dtype", lambda: coarse)
    x, offsets = centres(SIZES, 24)
    near = x[-40:-39] + 1e-4 * x[-40:]  # so near one another that the fine screen is taken
    x = torch.cat((x[:-40], near))
    want = SEARCHES[kind](x, offsets)
    with torch.autocast("cpu", dtype):
        found = SEARCHES[kind](x, offsets)
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("subcenters", [1, 2, 3, 5])
@pytest.mark.parametrize(("zeros", "minimum"), [(0.0, -1.0), (0.4, -1.0), (0.2, 0.5)])
def test_of_classes_with_subcenters_the_nearest_centres_count(kind, subcenters, zeros, minimum):
    x, offsets = centres(tuple(subcenters * n for n in SIZES), 24, zeros=zeros, copies=0.3)
    edges = [edge // subcenters for edge in offsets]
    got = as_dict(SEARCHES[kind](x, edges, minimum=minimum, subcenters=subcenters))
    want = dense(x, edges, kind, minimum, subcenters)
    assert got.keys() == want.keys()
    assert len(want) > 10
    assert got == pytest.approx(want, abs=2e-7)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=4),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.2, 0.9]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.0, 3.0, 300.0]),
    st.sampled_from([-1.0, 0.0, 0.7, 1.0]),
    st.sampled_from(list(SEARCHES)),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_any_baskets(sizes, depth, copies, zeros, common, minimum, kind, subcenters, seed):
    x, offsets = centres(
        tuple(subcenters * n for n in sizes), depth, copies=copies, zeros=zeros, common=common, seed=seed
    )
    agree(x, [edge // subcenters for edge in offsets], kind, minimum, subcenters)


@pytest.mark.parametrize("kind", SEARCHES)
def test_larger_than_a_group(monkeypatch, kind):
    monkeypatch.setattr(scan, "TILE", 4096)
    x, offsets = centres((700, 333, 501), 48, copies=0.05, seed=3)
    agree(x, offsets, kind)


def test_a_collapsed_network_takes_the_fine_screen(monkeypatch):
    """All cosines within the coarse screen's error: without a finer one nearly every pair would be rescored."""
    monkeypatch.setattr(cosines, "fastest_dtype", lambda: torch.bfloat16)  # on every processor
    x, offsets = centres((200, 150), 32, copies=0.0, common=100.0)
    fine, rescored = [], []
    fine_tile, exact = cosines.Cosines.fine_tile, cosines.Cosines.exact
    monkeypatch.setattr(cosines.Cosines, "fine_tile", lambda *a: fine.append(1) or fine_tile(*a))
    monkeypatch.setattr(cosines.Cosines, "exact", lambda *a: rescored.append(len(a[1])) or exact(*a))
    agree(x, offsets)
    assert fine
    assert sum(rescored) < 0.15 * comparisons(offsets)


@pytest.mark.parametrize("subcenters", [2, 3])
@pytest.mark.parametrize(
    ("tile", "sizes"), [(1, (9, 1, 8)), (7, (31, 1, 20)), (40, (31, 1, 20)), (4096, (97, 31))]
)
def test_the_nearest_centre_within_a_basket_was_one_of_the_same_class(monkeypatch, subcenters, tile, sizes):
    """Centres of a class are nearly alike, and a class may lie in two tiles or more."""
    monkeypatch.setattr(scan, "TILE", tile)
    x, offsets = centres(sizes, 16, copies=0.0)
    torch.manual_seed(0)
    each = (
        x.repeat_interleave(subcenters, 0) * (1 + 1e-3 * torch.rand(len(x) * subcenters, 16))
    ).contiguous()
    agree(each, offsets, "within", subcenters=subcenters)
    got, want = (
        as_dict(mutual_nearest_within(each, offsets, subcenters=subcenters)),
        dense(x, offsets, "within"),
    )
    assert got.keys() == want.keys()  # as if a class had the one centre that they are close to
    assert len(want) > 2


def test_a_collapsed_basket_of_subcentres_takes_the_fine_screen():
    x, offsets = centres((200, 150), 32, copies=0.0, common=100.0)
    agree(x, [edge // 2 for edge in offsets], "within", subcenters=2)


def test_equal_classes_pair_by_the_lowest_index():
    x = torch.ones(50, 7)
    assert as_dict(mutual_nearest(x, [0, 20, 50])).keys() == {(0, 20)}
    assert as_dict(mutual_nearest(x, [0, 20, 35, 50])).keys() == {(0, 20), (0, 35), (20, 35)}
    assert as_dict(mutual_nearest(x, [0, 20, 35, 50], per_basket=False)).keys() == {(0, 20)}
    assert as_dict(mutual_nearest_within(x, [0, 20, 50])).keys() == {(0, 1), (20, 21)}


def test_does_not_depend_on_threads_or_tiles(monkeypatch):
    x, offsets = centres((120, 130), 64, copies=0.3)
    want = mutual_nearest(x, offsets)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(scan, "TILE", 77)
        got = mutual_nearest(x, bs.Baskets([120, 130]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert torch.equal(got.cosine, got.cosine.sort(descending=True).values)


def test_lowered_precision_of_fp32_products_is_bounded(monkeypatch):
    """torch multiplies fp32 in bfloat16 on this setting, where the processor can: the bound must say so."""
    monkeypatch.setattr(cosines, "fastest_dtype", lambda: torch.float32)
    x, offsets = centres((300, 300), 128, copies=0.0, common=10.0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        agree(x, offsets)
        within_bound(cosines.Cosines(x))
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("coarse", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("depth", [1, 31, 128, 1025])
def test_tiles_are_within_their_bound(coarse, depth):
    x, _ = centres((150, 150), depth, common=5.0, seed=depth)
    screen = cosines.Cosines(x, coarse)
    within_bound(screen)
    assert screen.coarse_error < (0.005 if coarse == torch.bfloat16 else 3e-4)


def within_bound(screen: cosines.Cosines) -> None:
    n = len(screen.centres)
    tile = screen.tile(slice(0, n), slice(0, n), torch.empty(n * n, dtype=screen.coarse.dtype)).double()
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    exact = screen.exact(i.flatten(), j.flatten()).view(n, n)
    rounding = torch.finfo(screen.coarse.dtype).eps * (exact.abs() + screen.coarse_error)
    assert bool(((tile - exact).abs() <= screen.coarse_error + rounding).all())
    fine = screen.fine_tile(slice(0, n), slice(0, n))
    assert bool(((fine - exact).abs() <= screen.fine_error).all())


def test_bits_of_a_cosine_do_not_depend_on_its_neighbours():
    x, _ = centres((200, 100), 111)
    screen = cosines.Cosines(x)
    i, j = torch.randint(0, 300, (2, 500))
    together = screen.exact(i, j)
    alone = torch.cat([screen.exact(a, b) for a, b in zip(j.split(1), i.split(1), strict=True)])
    assert torch.equal(together, alone)


def test_progress_adds_up():
    x, offsets = centres(SIZES, 8)
    for kind, search in SEARCHES.items():
        done: list[int] = []
        search(x, offsets, progress=done.append)
        assert sum(done) == comparisons(offsets, within=kind == "within")
    assert comparisons(offsets) + comparisons(offsets, within=True) == len(x) * (len(x) - 1) // 2


@pytest.mark.parametrize(
    ("x", "offsets", "options", "error", "message"),
    [
        ([[1.0]], [0, 1], {}, TypeError, r"centres: expected a floating tensor \[C, D\], got list"),
        (torch.ones(2, 2).long(), [0, 2], {}, TypeError, "got torch.int64"),
        (
            torch.ones(3, 2),
            [0, 2],
            {},
            ValueError,
            r"centres: expected shape \[2, D\] on the CPU, got \(3, 2\) on cpu",
        ),
        (torch.ones(3), [0, 3], {}, ValueError, r"centres: expected shape \[3, D\] .*, got \(3,\)"),
        (
            torch.ones(3, 2),
            [1, 3],
            {},
            ValueError,
            r"baskets: expected offsets that rise from 0 to C, got \[1, 3\]",
        ),
        (torch.ones(3, 2), [0, 5, 3], {}, ValueError, "expected offsets that rise"),
        (
            torch.ones(3, 2),
            [0, 3],
            {"minimum": 1.5},
            ValueError,
            r"minimum: expected a cosine in .*, got 1\.5",
        ),
        (
            torch.ones(6, 2),
            [0, 3],
            {"subcenters": 3},
            ValueError,
            r"centres: expected shape \[9, D\] .*, got \(6, 2\)",
        ),
        (
            torch.ones(6, 2),
            [0, 3],
            {"subcenters": 0},
            ValueError,
            "subcenters: expected a positive int, got 0",
        ),
        (
            torch.tensor([[1.0], [float("nan")]]),
            [0, 1, 2],
            {},
            ValueError,
            "1 of 2 rows .* the first is row 1",
        ),
    ],
)
def test_bad_arguments(x, offsets, options, error, message):
    with pytest.raises(error, match=message):
        mutual_nearest(x, offsets, **options)
