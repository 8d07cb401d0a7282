"""What a margin that maps the negatives costs beside ArcFace in the kernels: a table for docs/margins.md.

python bench/mapped_cost.py prints CPU milliseconds of one thread for forward and backward, the least of a few steps, so
that other work on the machine counts little.
"""

from __future__ import annotations

import time

import torch

import basket_softmax as bs
from bbs_kernels.info import info

ROWS, DEPTH, CLASSES, BASKETS, STEPS = 256, 256, 50_000, 4, 5
RULES = {"one dataset": bs.Own(), "TopK(64, 1)": bs.TopK(64, 1), "All()": bs.All()}
MARGINS = {"ArcFace": bs.ArcFace(0.5), "CurricularFace": bs.CurricularFace(0.5), "ASoftmax": bs.ASoftmax(4.0)}


def step_ms(head: bs.BasketSoftmaxLoss, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Milliseconds of CPU time of (forward, backward), the least of STEPS each."""
    times = []
    for _ in range(STEPS):
        start = time.process_time()
        loss = head(x, labels)
        middle = time.process_time()
        loss.backward()
        times.append((middle - start, time.process_time() - middle))
    forward, backward = (1e3 * min(part) for part in zip(*times, strict=True))
    return forward, backward


def main() -> None:
    """The table, with the machine above it."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(CLASSES, DEPTH, generator=generator)
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    x = (w[labels] + torch.randn(ROWS, DEPTH, generator=generator)).requires_grad_()
    facts = info()
    print(f"{facts['CPU']}; kernels {facts['CPU kernels']}; torch {facts['torch']}")
    print(f"B = {ROWS}, D = {DEPTH}, C = {CLASSES} in {BASKETS} baskets (one dataset: 1), fp32, one thread\n")
    print("| rule | margin | forward ms | backward ms |\n| :-- | :-- | --: | --: |")
    for rule_name, rule in RULES.items():
        sizes = [CLASSES] if isinstance(rule, bs.Own) else [CLASSES // BASKETS] * BASKETS
        for name, margin in MARGINS.items():
            scale = 1.0 if isinstance(margin, bs.ASoftmax) else 64.0  # there the norms are the scale
            head = bs.BasketSoftmaxLoss(sizes, DEPTH, margin, scale, rule)
            head.load_full_weight(w)
            forward, backward = step_ms(head, x, labels)
            print(f"| `{rule_name}` | {name} | {forward:.0f} | {backward:.0f} |")


if __name__ == "__main__":
    main()
