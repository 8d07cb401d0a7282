"""The plots of docs/margins.md: what each margin does to the gradients. Every curve is the library's own autograd."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.functional import row_losses

SCALE = 16.0  # a small one: at 64 every curve is a step
LSE = math.log(1000.0)  # a thousand negatives at right angles
FIXED = {
    "no margin": bs.CosFace(0.0),
    "CosFace(0.35)": bs.CosFace(0.35),
    "ArcFace(0.5)": bs.ArcFace(0.5),
    "SphereFace(1.5)": bs.SphereFace(1.5),
    "ASoftmax(4, annealing=5), ‖x‖ = s": bs.ASoftmax(4.0, 5.0),
}
TARGETS = (0.6, 0.7, 0.8)


def draw() -> dict[str, Figure]:
    """{file name: figure}."""
    return {"margin_pull.svg": _pull(), "margin_norms.svg": _norms(), "margin_negatives.svg": _negatives()}


def context(norms: Tensor) -> bs.MarginContext:
    """A batch with these norms, in evaluation."""
    labels = torch.zeros(len(norms), dtype=torch.int64)
    return bs.MarginContext(norms, labels, False, torch.ones(len(norms), dtype=torch.bool))


def _pull() -> Figure:
    figure, (left, right) = _two_panels()
    theta = torch.linspace(0.5, 179.5, 1200, dtype=torch.float64)
    for n, (name, margin) in enumerate(FIXED.items()):
        c = theta.deg2rad().cos().requires_grad_()
        fixed_norm = context(torch.ones_like(c))
        psi = margin(c, fixed_norm) if isinstance(margin, bs.ASoftmax) else margin(c)
        (slope,) = torch.autograd.grad(row_losses(torch.full_like(c, LSE), psi, SCALE).sum(), c)
        width = 2.6 - 0.4 * n
        left.plot(theta, psi.detach(), label=name, linewidth=width)
        right.plot(theta, -slope / SCALE, linewidth=width)
    left.set(
        xlabel="target angle θ (degrees)", ylabel="ψ", title="what stands in for cos θ", ylim=(-2.2, 1.1)
    )
    right.set(
        xlabel="target angle θ (degrees)", ylabel="−∂L/∂c / s", title="pull on the target", ylim=(-0.05, 2.6)
    )
    left.legend(fontsize=7)
    return figure


def _norms() -> Figure:
    figure, (left, right) = _two_panels()
    norms = torch.linspace(1.0, 130.0, 800, dtype=torch.float64)
    magface = bs.MagFace()
    left.plot(norms, magface.margin_of(norms), label="MagFace: added angle m(a)")
    adaface = bs.AdaFace(0.4).double()
    adaface.mean.fill_(50.0)
    adaface.std.fill_(15.0)
    right_angle = torch.zeros_like(norms)
    for c, style in ((0.0, "-"), (0.7, "--")):
        taken = c - adaface(right_angle + c, context(norms))
        left.plot(norms, taken, style, color="C1", label=f"AdaFace: c − ψ(c) at c = {c}")
    for n, c in enumerate(TARGETS):
        a = norms.clone().requires_grad_()
        ctx = context(a)
        cos_t = torch.full_like(a, c)
        loss = row_losses(torch.full_like(a, 64.0 * 0.1), magface(cos_t, ctx), 64.0)
        (slope,) = torch.autograd.grad((loss + magface.row_penalty(ctx)).sum(), a)
        right.plot(norms, slope, color=f"C{2 + n}", label=f"target cosine {c}")
    right.axhline(0.0, color="black", linewidth=0.6)
    left.set(xlabel="norm ‖x‖", title="the margin follows the norm")
    right.set(xlabel="norm ‖x‖", ylabel="∂L/∂‖x‖", title="MagFace: pull on the norm")
    right.set_ylim(-0.3, 0.3)
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    return figure


def _negatives() -> Figure:
    figure, (left, right) = _two_panels()
    target = torch.tensor([0.8], dtype=torch.float64)
    maps = {}
    for t in (0.0, 0.3, 0.8):
        curricular = bs.CurricularFace(0.5).double()
        curricular.t.fill_(t)
        maps[f"CurricularFace, t = {t}"] = curricular
    maps["InterclassFilter(0.6)"] = bs.InterclassFilter(0.6)
    maps["CircleSoftmax(0.25)"] = bs.compat.fastreid.CircleSoftmax(0.25)
    for name, margin in maps.items():
        mapping = margin.negatives(target, context(torch.ones(1, dtype=torch.float64)))
        c = torch.linspace(-0.4, 1.0, 1401, dtype=torch.float64)[None].requires_grad_()
        mapped = mapping.function(c, *(p[:, None] for p in mapping.parameters))
        (slope,) = torch.autograd.grad(mapped.sum(), c)
        left.plot(c[0].detach(), mapped[0].detach(), label=name)
        right.plot(c[0].detach(), slope[0])
    left.plot([-0.4, 1.0], [-0.4, 1.0], ":", color="grey", label="unchanged")
    left.set(xlabel="cosine of a negative", ylabel="f(c)", title="what stands in for it (target cosine 0.8)")
    right.set(xlabel="cosine of a negative", ylabel="f′(c)", title="the factor of its gradient")
    left.legend(fontsize=7)
    return figure


def _two_panels():
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    return figure, figure.subplots(1, 2)
