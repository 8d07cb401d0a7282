"""The plots of the documentation, drawn from the library itself: {file name: SVG bytes}.

`rules.svg` shows which classes a rule admits by asking for the gradient of the log-sum-exp with respect to
the class centres: a class is a negative exactly where that gradient is not zero. `stages.svg` does the same for
many rows; `sizes.svg` shows committed measurements.
"""

from __future__ import annotations

import io
from pathlib import Path

import margin_plots
import matplotlib
import rule_plot
import size_plot
import torch
from bench_table import read
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

import basket_softmax as bs
from bbs_kernels import functional

SIZES = Path(__file__).parent / "results" / "bench" / "sizes"
MARGINS = {
    "no margin": bs.CosFace(0.0),
    "ArcFace(0.5)": bs.ArcFace(0.5),
    "CosFace(0.35)": bs.CosFace(0.35),
    "CombinedMargin(1, 0.3, 0.2)": bs.CombinedMargin(1.0, 0.3, 0.2),
    "SphereFace(1.5)": bs.SphereFace(1.5),
}
BOUNDARIES = {
    "hard": bs.ArcFace(0.5, boundary="hard"),
    "easy": bs.ArcFace(0.5, boundary="easy"),
    "none": bs.ArcFace(0.5, boundary="none"),
}
SIZE = 60  # classes per basket of the picture of rules
RULES = {
    "All()": bs.All(),
    "Own()": bs.Own(),
    "Below(Absolute(0.4))": bs.Below(bs.Absolute(0.4)),
    "TopK(k=16, skip=1)": bs.TopK(k=16, skip=1),
}


def draw_all() -> dict[str, bytes]:
    """Every plot; the same bytes on every run."""
    settings = {"svg.hashsalt": "bbs-kernels", "svg.fonttype": "path", "font.size": 9, "axes.grid": True,
                "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(settings):
        drawn = {"margins.svg": _margins(), "boundaries.svg": _boundaries(), "rules.svg": _rules()}
        drawn |= {"stages.svg": _svg(rule_plot.draw()), "sizes.svg": _svg(size_plot.draw(read(SIZES)))}
        return drawn | {name: _svg(figure) for name, figure in margin_plots.draw().items()}


def _margins() -> bytes:
    return _values_and_slopes(MARGINS, "margin on the target cosine")


def _boundaries() -> bytes:
    return _values_and_slopes(BOUNDARIES, "ArcFace(0.5, boundary=…)")


def _values_and_slopes(margins, title) -> bytes:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for n, (name, margin) in enumerate(margins.items()):
        width = 1.0 + 0.5 * (
            len(margins) - 1 - n
        )  # the first are wider, so that a curve below another one shows
        c = torch.linspace(-1.0, 1.0, 801, dtype=torch.float64, requires_grad=True)
        psi = margin(c)
        (slope,) = torch.autograd.grad(psi.sum(), c)
        left.plot(c.detach(), psi.detach(), label=name, linewidth=width)
        right.plot(c.detach(), slope, linewidth=width)
    left.set(xlabel="target cosine c", ylabel="ψ(c)", title=title)
    right.set(
        xlabel="target cosine c", ylabel="ψ′(c)", title="its slope: the factor of the target's gradient"
    )
    right.set_ylim(-0.6, 3.2)
    left.legend(fontsize=7)
    return _svg(figure)


def _rules() -> bytes:
    x, w, offsets, twin = _one_row_three_baskets()
    labels = torch.tensor([0])
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    panels = figure.subplots(len(RULES), 1, sharex=True)
    cos = (w @ x[0]).tolist()
    for panel, (name, rule) in zip(panels, RULES.items(), strict=True):
        kept = _negatives(x, w, labels, offsets, rule)
        for basket in range(3):
            for j in range(int(offsets[basket]), int(offsets[basket + 1])):
                if j == 0:
                    continue
                panel.plot(
                    cos[j],
                    2 - basket,
                    marker="o" if kept[j] else "x",
                    markersize=5 if kept[j] else 4,
                    alpha=0.9 if kept[j] else 0.45,
                    color="tab:red" if j == twin else f"C{(0, 2, 4)[basket]}",
                    zorder=3 if j == twin else 2,
                )
        panel.set_yticks([2, 1, 0], ["own", "2nd", "3rd"])
        panel.set_ylim(-0.6, 2.6)
        title = f"{name}: {sum(kept[SIZE:])} of {2 * SIZE} classes of other baskets are negatives"
        panel.set_title(title, loc="left", fontsize=9)
        panel.grid(axis="y", alpha=0)
    panels[-1].set_xlabel(
        "cosine of the row with each class    ● negative    × left out    red: the same person elsewhere"
    )
    return _svg(figure)


def _one_row_three_baskets():
    """One row of class 0 and three baskets; class `twin`, of the second, is the same person as class 0."""
    generator = torch.Generator().manual_seed(7)
    width = 64
    x = torch.zeros(1, width, dtype=torch.float64)
    x[0, 0] = 1.0
    wanted = torch.randn(3 * SIZE, generator=generator, dtype=torch.float64) * 0.16 + 0.08
    wanted[0] = 0.8
    twin = SIZE + 20
    wanted[twin] = 0.62
    wanted[2 * SIZE + 5] = 0.47  # a look-alike: above the threshold, and nobody's twin
    w = torch.randn(3 * SIZE, width, generator=generator, dtype=torch.float64)
    w[:, 0] = 0.0
    w = torch.nn.functional.normalize(w) * torch.sqrt(1 - wanted**2)[:, None]
    w[:, 0] = wanted
    return x, w, torch.tensor([0, SIZE, 2 * SIZE, 3 * SIZE]), twin


def _negatives(x, w, labels, offsets, rule) -> list[bool]:
    w = w.clone().requires_grad_()
    lse, *_ = functional.cos_lse(x, w, labels, offsets, scale=1.0, mining=rule)
    (gradient,) = torch.autograd.grad(lse.sum(), w)
    return (gradient.abs().sum(dim=1) > 0).tolist()


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
