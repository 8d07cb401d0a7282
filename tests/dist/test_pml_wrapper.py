"""compat.pml over ranks as pytorch-metric-learning does it: DistributedLossWrapper, which gathers the batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dist.workers import Workers

pytest.importorskip("pytorch_metric_learning")
pytestmark = pytest.mark.dist
NAMES = ["ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss"]


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """Two processes of their own: the wrapper asks the default group, which is of all processes."""
    workers = Workers(2)
    yield workers
    workers.stop()


@pytest.mark.parametrize("name", NAMES)
def test_a_gathered_step_is_upstreams(two, name: str) -> None:
    two.run(2, "pml_wrapper.gathered_step", name)


@pytest.mark.parametrize("name", NAMES)
def test_training_in_ddp_is_upstreams(two, name: str) -> None:
    two.run(2, "pml_wrapper.training", name)


def test_reference_embeddings_are_refused_as_upstream(two) -> None:
    two.run(2, "pml_wrapper.reference_embeddings")
