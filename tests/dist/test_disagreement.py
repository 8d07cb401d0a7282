"""Ranks that disagree about a head are refused in words, on every rank, before a step."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("equal_batches", [False, True])
def test_heads_that_ranks_make_differently(workers, equal_batches: bool) -> None:
    workers.run(2, "disagreement.made_otherwise", equal_batches)


@pytest.mark.slow
def test_heads_that_one_rank_of_three_makes_differently(workers) -> None:
    workers.run(3, "disagreement.made_otherwise", False)


@pytest.mark.parametrize("equal_batches", [False, True])
def test_baskets_that_ranks_add_differently(workers, equal_batches: bool) -> None:
    workers.run(2, "disagreement.grown_otherwise", equal_batches)


@pytest.mark.parametrize("equal_batches", [False, True])
def test_aliases_that_ranks_set_differently(workers, equal_batches: bool) -> None:
    workers.run(2, "disagreement.aliases_set_otherwise", equal_batches)


@pytest.mark.parametrize("body", ["made_alike", "linked_in_several_dtypes"])
def test_ranks_that_agree_are_not_refused(workers, body: str) -> None:
    workers.run(2, f"disagreement.{body}")


@pytest.mark.parametrize(
    "body",
    [
        "called_otherwise", "linked_otherwise", "partial_fc_otherwise", "promised_otherwise",
        "wrong_baskets_on_one_rank",
    ],
)  # fmt: skip
def test_calls_that_ranks_make_differently(workers, body: str) -> None:
    workers.run(2, f"disagreement.{body}")
