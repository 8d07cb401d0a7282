"""A step captured in a CUDA graph and replayed on other data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from support.large_cases import losses_of, make_problem, rule_of

from .device import Device
from .sheet import Sheet
from .timing import TimedStep

Results = tuple[torch.Tensor, ...]


def run(sheet: Sheet, device: Device) -> None:
    graph = replayed(device)
    sheet.put("graph", graph)
    if not graph["same"]:
        sheet.fail("graph: the replay gave other bits than the step")


def replayed(device: Device) -> dict[str, Any]:
    """Return whether a replay gives the bits of an eager step on other data, and both times.

    On the CPU there are no graphs: the step is run again in place of a replay.
    """
    case = device.sizes.graph
    first, other = (make_problem(case, device.name, seed) for seed in (0, 1))
    forward, leaves = losses_of(first, rule_of(case))

    def step() -> Results:
        losses = forward()
        return (losses.detach(), *torch.autograd.grad(losses.sum(), leaves))

    for _ in range(3):
        step()
    replay = _captured(step) if device.is_gpu else step
    with torch.no_grad():
        leaves[0].copy_(other.x)
        first.labels.copy_(other.labels)
    got = tuple(t.clone() for t in replay())
    want = step()
    timed = TimedStep(case, device)
    return {
        "replayed": device.is_gpu,
        "same": all(torch.equal(a, b) for a, b in zip(got, want, strict=True)),
        "eager": device.seconds(timed.both, device.sizes.repeats),
        "replay": device.seconds(replay, device.sizes.repeats) if device.is_gpu else None,
    }


def _captured(step: Callable[[], Results]) -> Callable[[], Results]:
    """A function that replays the step's graph and returns the tensors that it writes."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay() -> Results:
        graph.replay()
        return results

    return replay
