"""Heads that every rank holds whole: no step on a gradient that nobody averages without a word."""

from __future__ import annotations

import pytest

from dist.replicated import HEADS

pytestmark = pytest.mark.dist


def test_fused_sgd_is_refused_where_nobody_can_average(workers) -> None:
    workers.run(2, "replicated.fused_is_refused")


def test_fused_sgd_of_one_rank_alone(workers) -> None:
    workers.run(4, "replicated.fused_on_one_rank_alone")


@pytest.mark.parametrize("head", HEADS)
def test_one_warning_beside_a_wrapped_backbone(workers, head: str) -> None:
    workers.run(2, "replicated.beside_the_wrapper", head)


@pytest.mark.parametrize("head", ["ArcFaceLoss", "EmbeddingHead", "pml.ArcFaceLoss"])
def test_no_warning_within_a_wrapper(workers, head: str) -> None:
    workers.run(2, "replicated.within_a_wrapper", head)


def test_a_head_that_ddp_ignores_and_a_compiled_one_are_noticed(workers) -> None:
    workers.run(2, "replicated.ignored_by_ddp")


def test_a_class_parallel_head_is_silent(workers) -> None:
    workers.run(2, "replicated.class_parallel")


@pytest.mark.parametrize("head", ["BasketSoftmaxLoss", "ArcFaceLoss", "pml.ArcFaceLoss"])
def test_a_head_inside_ddp_trains_as_in_one_process(workers, head: str) -> None:
    assert max(workers.run(2, "replicated.averaged_is_one_process", head)) <= 1e-4


def test_a_basket_added_inside_ddp_needs_a_new_wrapper(workers) -> None:
    workers.run(2, "replicated.grown_inside_ddp")
