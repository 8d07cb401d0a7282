"""Bodies: compat.pml inside pytorch-metric-learning's DistributedLossWrapper, beside upstream's losses in it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from pytorch_metric_learning import losses as upstream
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper, DistributedMinerWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from basket_softmax.compat import pml as ours

from .heads_in_use import refusal
from .ranks import of_every_rank, warnings_with

NAMES = ("ArcFaceLoss", "CosFaceLoss", "SubCenterArcFaceLoss")
CLASSES, WIDTH, ROWS, STEPS = 31, 24, 13, 5


def batch(rank: int, step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(100 * step + rank)
    labels = torch.randint(CLASSES, (ROWS,), generator=g)
    return torch.randn(ROWS, WIDTH, generator=g, dtype=torch.float64), labels


def made(library: object, name: str, **kwargs: object) -> nn.Module:
    torch.manual_seed(3)
    return getattr(library, name)(num_classes=CLASSES, embedding_size=WIDTH, **kwargs).double()


def gathered_step(group: dist.ProcessGroup, name: str) -> None:
    """Value and both gradients on this rank are upstream's; both are the ranks' number times those of all rows."""
    rank, world = dist.get_rank(), dist.get_world_size()
    x, labels = batch(rank)
    for mined in (False, True):
        for kwargs in ({}, {"reducer": AvgNonZeroReducer(), "scale": 16.0}):
            results = []
            for library in (ours, upstream):
                loss = made(library, name, **kwargs)
                miner = DistributedMinerWrapper(MultiSimilarityMiner())
                given = x.clone().requires_grad_()
                value = DistributedLossWrapper(loss)(given, labels, miner(x, labels) if mined else None)
                value.backward()
                results.append((value.detach(), given.grad, loss.W.grad))
            for got, want in zip(*results, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
            if not mined:
                every = [batch(other) for other in range(world)]
                alone = made(ours, name, **kwargs)
                value = alone(torch.cat([x for x, _ in every]), torch.cat([y for _, y in every]))
                value.backward()
                torch.testing.assert_close(results[0][0], world * value.detach(), rtol=1e-12, atol=0)
                torch.testing.assert_close(results[0][2], world * alone.W.grad, rtol=1e-9, atol=1e-12)


def training(group: dist.ProcessGroup, name: str) -> None:
    """Five steps with backbone and wrapper in DDP: parameters as upstream's, the same bits on every rank."""
    rank = dist.get_rank()
    runs = []
    for library in (ours, upstream):
        torch.manual_seed(7)
        backbone = DistributedDataParallel(nn.Linear(WIDTH, WIDTH).double())
        loss = made(library, name)
        wrapped = DistributedDataParallel(DistributedLossWrapper(loss))
        optimiser = torch.optim.SGD([*backbone.parameters(), *wrapped.parameters()], lr=0.05, momentum=0.9)
        for step in range(STEPS):
            x, labels = batch(rank, step)
            optimiser.zero_grad()
            wrapped(backbone(x), labels).backward()
            optimiser.step()
        runs.append([*(p.detach() for p in backbone.parameters()), loss.W.detach()])
    for got, want in zip(*runs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-11)
    for mine in runs[0]:
        assert all(torch.equal(mine, other) for other in of_every_rank(mine)), "ranks differ"


def reference_embeddings(group: dist.ProcessGroup) -> None:
    """`efficient=True` gives reference embeddings, which a classification loss has no use for: refused, as upstream."""
    x, labels = batch(dist.get_rank())
    for library in (ours, upstream):
        wrapped = DistributedLossWrapper(made(library, "ArcFaceLoss"), efficient=True)
        assert "ref_emb is not supported" in refusal(ValueError, lambda w=wrapped: w(x, labels))


class OwnSteps(ours.ArcFaceLoss):
    """A loss that does without the kernels."""

    def compute_loss(self, embeddings, labels, *_):
        losses = self.cross_entropy(self.get_logits(embeddings), labels)
        return {"loss": {"losses": losses.mean(), "indices": None, "reduction_type": "already_reduced"}}


def who_averages(group: dist.ProcessGroup) -> None:
    """A loss outside DistributedDataParallel warns, once, whoever wrote its compute_loss; one inside does not."""
    x, labels = batch(dist.get_rank())
    for kind in (ours.ArcFaceLoss, OwnSteps):
        found = []
        for inside in (True, False):
            loss = DistributedLossWrapper(kind(CLASSES, WIDTH).double())
            whole = DistributedDataParallel(loss) if inside else loss

            def two_steps(whole: nn.Module = whole) -> None:
                for _ in range(2):
                    whole(x.clone().requires_grad_(), labels).backward()

            found.append(len(warnings_with("a wrapper that averages the gradient of W", two_steps)))
        assert found == [0, 1], f"{kind.__name__}: {found} warnings inside and outside"
