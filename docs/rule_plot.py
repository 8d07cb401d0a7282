"""What each rule keeps and drops while training goes on: the same person elsewhere, and the hard negatives. SVG.

Simulated cosines, the library's own rules. One row meets its own basket and two others of `SIZE` classes; one class of
the second is the same person. As training goes on the row comes closer to its own class and to the other centre of the
same person, while other people stay where they are. Which classes a rule makes negatives is read from the gradient.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import functional

SIZE, WIDTH, DRAWS, SCALE = 60, 8, 60, 32.0
STAGES = [0.1 * n for n in range(1, 10)]  # mean target cosine, from the first epochs to the last
TWIN = SIZE + 20
SPREAD, MIDDLE = 0.15, 0.05  # cosines of other people
RULES = {  # name: rule, colour, line
    "All()": (bs.All(), "#6b7280", "-"),
    "Own()": (bs.Own(), "#1b1b1b", ":"),
    "Below(Absolute(0.3))": (bs.Below(bs.Absolute(0.3)), "#e08e0b", "-"),
    "Below(Absolute(0.6))": (bs.Below(bs.Absolute(0.6)), "#d1495b", "-"),
    "Below(Relative(0.2))": (bs.Below(bs.Relative(0.2)), "#2a9d5c", "-"),
    "TopK(k=16, skip=1)": (bs.TopK(16, 1), "#1f4fbf", "-"),
}


def draw() -> Figure:
    """The figure: left, how often the same person is pushed away; right, how much of the hard negatives is kept."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (rule, colour, line) in RULES.items():
        wrong, kept = zip(*(_shares(rule, stage) for stage in STAGES), strict=True)
        style = {
            "color": colour, "linestyle": line, "marker": "o", "markersize": 3.5, "clip_on": False,
            "linewidth": 2.6 if name.startswith("TopK") else 1.6, "zorder": 3 if name.startswith("TopK") else 2,
        }  # fmt: skip
        left.plot(STAGES, [100 * w for w in wrong], label=name, **style)
        right.plot(STAGES, [100 * k for k in kept], **style)
    left.set_title("the same person made a negative, % (wrong)", loc="left", fontsize=10)
    right.set_title("softmax weight of other people kept, % (wanted)", loc="left", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel="mean target cosine: training goes on →", ylim=(0, 100), xlim=(0.1, 0.9))
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def _shares(rule: bs.TopK | bs.All | bs.Own | bs.Below, stage: float) -> tuple[float, float]:
    """(share of rows whose twin is a negative, share of the softmax weight of the others that is kept)."""
    generator = torch.Generator().manual_seed(11)  # the same people at every stage and under every rule
    wrong = kept = 0.0
    for _ in range(DRAWS):
        wanted = torch.randn(3 * SIZE, generator=generator, dtype=torch.float64) * SPREAD + MIDDLE
        near = torch.randn(2, generator=generator, dtype=torch.float64) * 0.05
        wanted[0], wanted[TWIN] = stage + near[0], 0.9 * stage + near[1]
        taken = _negatives(wanted.clamp(-0.99, 0.99), rule)
        others = torch.ones(3 * SIZE, dtype=torch.bool)
        others[:SIZE] = False
        others[TWIN] = False
        weight = torch.where(others, torch.exp(SCALE * wanted), 0.0)
        wrong += float(taken[TWIN])
        kept += float((weight * taken).sum() / weight.sum())
    return wrong / DRAWS, kept / DRAWS


def _negatives(cosines: Tensor, rule: bs.TopK | bs.All | bs.Own | bs.Below) -> Tensor:
    """[C] bool of a row of class 0 that has these cosines with the classes of three baskets."""
    x = torch.zeros(1, WIDTH, dtype=torch.float64)
    x[0, 0] = 1.0
    w = torch.zeros(3 * SIZE, WIDTH, dtype=torch.float64)
    w[:, 0], w[:, 1] = cosines, torch.sqrt(1 - cosines.square())
    w.requires_grad_()
    offsets = torch.arange(4) * SIZE
    lse, *_ = functional.cos_lse(x, w, torch.tensor([0]), offsets, scale=1.0, mining=rule)
    (gradient,) = torch.autograd.grad(lse.sum(), w)
    return gradient.abs().sum(dim=1) > 0
