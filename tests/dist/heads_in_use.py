"""Bodies: what a head offers beside its step, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import re
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import basket_softmax as bs
from bbs_kernels import functional as core
from bbs_kernels.sharding import Sharding

from .agree import check_step
from .heads import Case, Pair, Step, error


def refusal(kind: type[Exception], call: Any) -> str:
    """The message of the `kind` that `call()` raises."""
    try:
        call()
    except kind as problem:
        return str(problem)
    raise AssertionError(f"{call} raised nothing")


def weights(group: dist.ProcessGroup, shard: str, dtype: torch.dtype) -> None:
    """One seed gives one set of centres at every world size, and they come and go as a whole."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    for sizes, depth in (((97, 0, 31, 1, 111), 24), ((5,), 2), ((3, 1, 2), 3), ((70000,), 65)):
        torch.manual_seed(5)
        alone = bs.BasketSoftmaxLoss(sizes, depth, dtype=dtype)
        follows = torch.rand(1)
        torch.manual_seed(5)
        head = bs.BasketSoftmaxLoss(sizes, depth, dtype=dtype, process_group=group, shard=shard)
        assert torch.equal(torch.rand(1), follows), "the generator moved on by another amount"
        assert len(head.weight) == Sharding(sizes, world, shard).num_local(rank)
        assert torch.equal(head.full_weight(), alone.weight)
        centres = torch.randn_like(alone.weight)
        head.load_full_weight(centres)
        assert torch.equal(head.full_weight(), centres)
        x = torch.randn(3 + rank, depth, dtype=dtype)
        alone.load_full_weight(centres)
        for classes in (slice(1, 4), slice(None), torch.tensor([2, 0, 2]), torch.tensor([-1, 1])):
            assert torch.equal(head.logits(x, classes), alone.logits(x, classes))
        beyond = torch.tensor([0, sum(sizes)])
        assert "classes: expected " in refusal(IndexError, partial(head.logits, x, beyond))
    assert f"expected shape {tuple(centres.shape)}" in refusal(
        ValueError, lambda: head.load_full_weight(centres[1:])
    )


def evaluation(group: dist.ProcessGroup) -> None:
    """Without gradients, and in eval mode, the value is the same; `ema` stays."""
    pair = Pair(group, Case(bs.TopK(5, 1, bs.Ema(0.5))))
    alone, head = pair.head(False), pair.head(True)
    pair.step_alone(alone), pair.step_together(head)
    before = head.ema.clone()
    alone.eval(), head.eval()
    with torch.no_grad():
        want = alone(pair.problem.x, pair.problem.labels)
        got = head(pair.problem.x[pair.own], pair.problem.labels[pair.own])
    assert not got.requires_grad
    assert abs(float(got - want)) <= 1e-6 * float(want)
    assert torch.equal(head.ema, before)
    assert torch.equal(head.ema, alone.ema)


def averaged(group: dist.ProcessGroup) -> None:
    """grad_average=True is the plain gradient of the embeddings times the number of ranks; dW does not change."""
    pair = Pair(group, Case(weighted=True, options={"margin": bs.AdaFace(0.4)}))
    plain, times = pair.step_together(), pair.step_together(pair.head(True))
    assert error(times.dx, plain.dx * pair.world) <= 1e-6
    assert torch.equal(times.dw, plain.dw)


def mesh(group: dist.ProcessGroup) -> None:
    pair = Pair(group, Case())
    head = pair.head(True, process_group=DeviceMesh.from_group(group, "cpu"), grad_average=False)
    check_step(pair, pair.step_together(head), pair.step_alone())


def checkpointed(group: dist.ProcessGroup) -> None:
    """Under activation checkpointing statistics move once, and every gradient has the same bits."""
    for mining in (bs.Below(bs.Ema(1.0)), bs.TopK(5, 1, bs.Ema(0.9))):
        pair = Pair(group, Case(mining=mining, options={"margin": bs.AdaFace(0.4, momentum=0.5)}))
        want, plain = pair.head(True), None
        for use_reentrant in (None, False, True):
            head = pair.head(True)
            x = pair.problem.x[pair.own].clone().requires_grad_()
            for _ in range(2):
                batch = (x, pair.problem.labels[pair.own])
                value = (
                    head(*batch)
                    if use_reentrant is None
                    else checkpoint(head, *batch, use_reentrant=use_reentrant)
                )
                value.backward()
            found = {**head.state_dict(), "dx": x.grad, "dw": head.weight.grad}
            plain = found if plain is None else plain
            assert not torch.equal(found["margin.mean"], want.margin.mean)
            for key, value in plain.items():
                assert torch.equal(found[key], value), key


def frozen_somewhere(group: dist.ProcessGroup) -> None:
    """The embeddings of one rank may be constants, and so may the centres: the others' gradients do not change."""
    pair = Pair(group, Case(rows=(5, 6, 7, 8)))
    head = pair.head(True, grad_average=False)
    x = pair.problem.x[pair.own].clone().requires_grad_(pair.rank != 0)
    head.weight.requires_grad_(pair.rank == 1)
    head(x, pair.problem.labels[pair.own]).backward()
    want = pair.step_alone()
    assert x.grad is None if pair.rank == 0 else error(x.grad, want.dx[pair.own]) <= 6e-6
    assert (head.weight.grad is None) == (pair.rank != 1)


def learnable_margin(group: dist.ProcessGroup) -> None:
    """A margin's parameters get the whole gradient on every rank."""
    pair = Pair(group, Case(options={"margin": Learnable()}))
    alone, head = pair.head(False), pair.head(True)
    pair.step_alone(alone), pair.step_together(head)
    assert error(head.margin.m.grad, alone.margin.m.grad) <= 6e-6


class Learnable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.tensor(0.3))

    def forward(self, cos_t: torch.Tensor) -> torch.Tensor:
        return cos_t - self.m


def fused(group: dist.ProcessGroup, mining: Any) -> None:
    """FusedSGD moves the shard as torch.optim.SGD would, bit for bit, sampled classes alone as well."""
    for options in ({}, {"sample_rate": 0.4, "sparse_grad": True}):
        pair = Pair(group, Case(mining, mates=True, options=options))
        plain, ours = pair.head(True), pair.head(True)
        settings = {"lr": 0.3, "weight_decay": 0.0 if options else 1e-3, "momentum": 0.0 if options else 0.9}
        sgd, one = torch.optim.SGD([plain.weight], **settings), bs.optim.FusedSGD(ours, **settings)
        for _ in range(3):
            values = []
            for head, optimizer in ((plain, sgd), (ours, one)):
                optimizer.zero_grad()
                torch.manual_seed(3)
                value = head(pair.problem.x[pair.own], pair.problem.labels[pair.own])
                value.backward()
                optimizer.step()
                values.append(value.detach())
            assert torch.equal(*values)
            assert torch.equal(plain.weight, ours.weight)
        assert ours.weight.grad is None


def sampled(group: dist.ProcessGroup, mining: Any) -> None:
    """Partial FC per rank is one process that samples the same classes; each rank takes its share."""
    import basket_softmax.losses.parallel as module

    pair = Pair(group, Case(mining, mates=True))
    head = pair.head(True, sample_rate=0.5, sparse_grad=True, grad_average=False)
    taken, original = [], module.sample_classes

    def spy(*args: Any) -> torch.Tensor:
        taken.append(original(*args))
        return taken[-1]

    module.sample_classes = spy
    try:
        torch.manual_seed(pair.rank)
        got = pair.step_together(head)
    finally:
        module.sample_classes = original
    local = taken[0]
    here = pair.part(torch.arange(240))
    positives = pair.problem.labels[pair.problem.valid]
    of_batch = torch.isin(here, positives)
    assert of_batch[local].sum() == of_batch.sum()
    assert len(local) == max(int(0.5 * len(here)), int(of_batch.sum()))
    every: list = [None] * pair.world
    dist.all_gather_object(every, here[local], group=group)
    index = torch.cat(every).sort().values

    alone = pair.head(False)
    x = pair.problem.x.clone().requires_grad_()
    w = pair.problem.w.clone().requires_grad_()
    lse, cos_t, idx, _ = core.cos_lse(
        x, w, pair.problem.labels, pair.problem.offsets, scale=32.0, mining=mining, aliases=pair.problem.aliases,
        class_index=index,
    )  # fmt: skip
    value = core.reduce_rows(core.row_losses(lse, alone.margin(cos_t), 32.0), pair.problem.valid)
    value.backward()
    assert torch.equal(got.mined_idx, idx[pair.own])
    assert abs(float(got.value - value.detach())) <= 1e-6 * float(value)
    assert error(got.dx, x.grad[pair.own]) <= 6e-6
    assert torch.equal(got.dw._indices()[0], local)
    assert error(got.dw.to_dense(), pair.part(w.grad.to_dense())) <= 6e-6


def refused(group: dist.ProcessGroup) -> None:
    pair = Pair(group, Case(sizes=(240,), mining=bs.Own(), rows=(4, 4, 4, 4)))
    rank, problem = pair.rank, pair.problem
    x, labels = problem.x[pair.own], problem.labels[pair.own].clone()
    head = pair.head(True)
    assert "wrap the backbone alone" in refusal(
        RuntimeError, lambda: DistributedDataParallel(head, process_group=group)
    )
    whole = DistributedDataParallel(WithHead(pair.head(True)), process_group=group)
    assert "wrap the backbone alone" in refusal(RuntimeError, lambda: whole(x, labels))
    mesh = DeviceMesh.from_group(group, "cpu")
    for module in (pair.head(True), WithHead(pair.head(True))):
        message = refusal(RuntimeError, lambda module=module: fully_shard(module, mesh=mesh))
        assert "fully_shard to the backbone alone" in message
    for use_orig_params in (False, True):
        flat = FullyShardedDataParallel(
            WithHead(pair.head(True)), process_group=group, device_id=torch.device("cpu"),
            use_orig_params=use_orig_params,
        )  # fmt: skip
        message = refusal(RuntimeError, lambda flat=flat: flat(x, labels))
        assert "must not be sharded by FSDP" in message

    message = refusal(ValueError, lambda: pair.head(True, margin=bs.CurricularFace()))
    assert "process_group came with the margin CurricularFace" in message
    head.margin = bs.AdaFace()
    assert "works in one process" in refusal(ValueError, lambda: setattr(head, "margin", bs.ASoftmax()))
    assert isinstance(head.margin, bs.AdaFace)
    head = pair.head(True)

    wrong = labels.clone()
    if rank == pair.world - 1:
        wrong[1] = 999  # the others must not wait for ever
    message = refusal(RuntimeError, lambda: head(x, wrong))
    assert message == (f"labels[1] of rank {pair.world - 1}: expected 0 to 239 or ignore_index = -1, got 999")
    value = head(x.clone().requires_grad_(), labels)
    assert "no second derivative" in refusal(RuntimeError, lambda: value.backward(create_graph=True))
    assert "save state_dict()" in refusal(TypeError, lambda: pickle.dumps(head))
    assert "process_group: expected a ProcessGroup" in refusal(
        TypeError, lambda: pair.head(True, process_group="world")
    )
    assert "shard: expected 'basket' or 'contiguous', got 'rows'" in refusal(
        ValueError, lambda: bs.ArcFaceLoss(9, 4, process_group=group, shard="rows")
    )
    many = {"baskets": [1000] * 250, "embedding_size": 4, "process_group": group}
    assert "use a smaller k" in refusal(
        ValueError, lambda: bs.BasketSoftmaxLoss(mining=bs.TopK(65, 1), **many)
    )
    assert "sample_weight: expected shape" in refusal(
        ValueError, lambda: head(x, labels, sample_weight=torch.ones(len(x) + 1))
    )


def refused_together(group: dist.ProcessGroup) -> None:
    """What is wrong on one rank is the same error on every rank, and nobody waits in a collective for the others."""
    pair = Pair(group, Case(sizes=(11, 230), mining=bs.Own(), rows=(4, 4, 4, 4)))
    last = pair.world - 1
    x, labels = pair.problem.x[pair.own], torch.arange(4)
    fine = {"embeddings": x, "labels": labels, "basket": 1}
    wrong = [
        (ValueError, "labels[1]: expected 0 to 10 in basket '0', or ignore_index = -1, got 777",
         {"labels": torch.tensor([0, 777, 1, 2]), "basket": 0}),
        (KeyError, "basket: expected one of '0', '1', got 'c'", {"basket": "c"}),
        (ValueError, "basket[2]: expected 0 to 1, got 9", {"basket": torch.tensor([0, 1, 9, 0])}),
        (TypeError, "labels: expected a tensor of class indices (an integer dtype), got torch.float32",
         {"labels": labels.float()}),
        (ValueError, "embeddings: expected shape [B, 24], got (4, 3)", {"embeddings": x[:, :3]}),
        (TypeError, "embeddings: expected float64, float32, float16 or bfloat16, got torch.int64",
         {"embeddings": x.long()}),
        (ValueError, "sample_weight: expected shape (4,), got (5,)", {"sample_weight": torch.ones(5)}),
    ]  # fmt: skip
    head = pair.head(True)
    for kind, text, arguments in wrong:
        call = {**fine, **arguments} if pair.rank == last else fine
        message = refusal(kind, lambda call=call: head(**call))
        assert f"rank {last} of {pair.world}: {text}" in message, message
    for linker in (bs.IdentityLinker(head), bs.IdentityLinker(pair.head(True, equal_batches=True))):
        for kind, text, arguments in wrong[:5]:
            call = {**fine, **arguments} if pair.rank == last else fine
            message = refusal(kind, lambda call=call, linker=linker: linker(**call))
            assert f"rank {last} of {pair.world}: {text}" in message, message

    means = bs.ClassMeans(head, 20)
    for kind, text, rows in (
        (
            TypeError,
            "labels: expected a tensor of class indices (an integer dtype), got torch.float32",
            labels.float(),
        ),
        (ValueError, "embeddings, labels: expected shapes [B, 24] and [B], got (4, 24) and (3,)", labels[1:]),
    ):
        brought = rows if pair.rank == last else labels
        message = refusal(kind, lambda brought=brought: means.update(x, brought))
        assert f"rank {last} of {pair.world}: {text}" in message, message

    promised = pair.head(True, equal_batches=True)
    promised(x, labels, basket=1)
    # From the second step on no exchange comes before the labels: there they are found.
    local = torch.tensor([0, 777, 1, 2]) if pair.rank == last else labels
    message = refusal(RuntimeError, lambda: promised(x, local, basket=0))
    assert re.search(rf"labels\[1\] of rank {last}: expected .*, got 241", message)
    check_step(pair, pair.step_together(), pair.step_alone())


class WithHead(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.head(x, labels)


def compiled(group: dist.ProcessGroup) -> None:
    """torch.compile of a whole model leaves the head as it is."""
    pair = Pair(group, Case())
    net = nn.Linear(pair.case.depth, pair.case.depth)
    values = []
    for wrap in (lambda f: f, lambda f: torch.compile(f, backend="aot_eager")):
        head = pair.head(True)
        value = wrap(lambda x, labels, head=head: head(net(x), labels))(
            pair.problem.x[pair.own], pair.problem.labels[pair.own]
        )
        value.backward()
        values.append((value.detach(), head.weight.grad))
    assert torch.equal(values[0][0], values[1][0])
    assert torch.equal(values[0][1], values[1][1])


def copied(group: dist.ProcessGroup) -> None:
    """A deep copy is a head of the same ranks; ArcFace and CosFace heads take the same arguments."""
    pair = Pair(group, Case())
    head = pair.head(True, grad_average=False)
    check_step(pair, pair.step_together(copy.deepcopy(head)), pair.step_alone())
    own = Pair(group, Case(bs.Own(), sizes=(240,)))
    for make in (bs.ArcFaceLoss, bs.CosFaceLoss, bs.CombinedMarginLoss):
        pairs = []
        for options in ({}, {"process_group": group, "shard": "contiguous", "grad_average": False}):
            one = make(240, own.case.depth, scale=32.0, **options)
            one.load_full_weight(own.problem.w)
            rows = own.own if options else slice(None)
            pairs.append(Step(one, own.problem.x[rows], own.problem.labels[rows], None, own.case))
        check_step(own, pairs[1], pairs[0])
