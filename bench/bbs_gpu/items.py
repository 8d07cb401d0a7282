"""The items of a report in order of their value, and the processes that run them.

Items of one process share its start, its data and its CUDA context. `share` is a part of the budget: a process ends by
the sum of the shares up to its own, so what one leaves over passes to the next. `limit` bounds it besides, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    key: str
    title: str


@dataclass(frozen=True)
class Process:
    """`needed`: its failure stops everything after it.

    until: part of the budget that it may use up, where that is more than the sum of the shares: nothing can run without
    it, so it takes from what comes after.
    """

    items: tuple[Item, ...]
    share: float
    limit: float
    needed: bool = False
    until: float = 0.0

    @property
    def name(self) -> str:
        return self.items[0].key


PROCESSES = (
    Process((Item("facts", "Facts and peaks"),), 0.06, 60.0, needed=True, until=0.3),
    Process((Item("build", "Build"),), 0.20, 240.0, needed=True, until=0.65),
    Process((Item("steps", "One step per dtype"),), 0.06, 90.0, needed=True, until=0.8),
    Process((Item("ptx", "Cases of the PTX machine, on the device"),), 0.16, 180.0),
    Process((Item("cuda", "Tests of the ops on the device"),), 0.12, 150.0),
    Process((Item("large", "Large cases"),), 0.07, 120.0),
    Process(
        (
            Item("kernels", "Time of a step and of its kernels"),
            Item("peers", "Beside other implementations"),
            Item("most_classes", "Ten million classes"),
        ),
        0.23, 240.0,
    ),
    Process((Item("sanitizer", "Under compute-sanitizer"),), 0.05, 90.0),
    Process(
        (
            Item("graphs", "A step in a CUDA graph"),
            Item("train", "Training in bf16"),
            Item("compile", "`torch.compile(mode=\"reduce-overhead\")`"),
        ),
        0.05, 120.0,
    ),
)  # fmt: skip
ITEMS = tuple(item for process in PROCESSES for item in process.items)
