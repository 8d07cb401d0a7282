"""Overloads of the ops whose scale and margins come in a tensor, for `torch.compile`.

A float is a constant of a compiled graph: a head whose scale or margin changes from step to step would be compiled
again for every value. A tensor on the CPU is an input. The overloads read it when the graph runs, and call the ops:
`numbers` [n >= 1] fp64 on the CPU is (scale) or (scale, m1, m2, m3), in the place of the float `scale`; margin_softmax
takes no m1, m2 and m3 beside it.
"""

from __future__ import annotations

from typing import Any

import torch

from .load import OPS

OVERLOAD = "numbers"
MARGIN = ("m1", "m2", "m3")


def _define(library: torch.library.Library, op: Any) -> None:
    """Define the overload of one op, with what it does and its shapes; gradients are in autograd.py."""
    schema = op.default._schema
    names = [argument.name for argument in schema.arguments]
    text = str(schema).replace(f"{schema.name}(", f"{op.__name__}.{OVERLOAD}(", 1)
    text = text.replace("float scale, ", "Tensor numbers, ", 1)
    scale_at = names.index("scale")
    margin_at = names.index("m1") if "m1" in names else None
    for name in MARGIN:
        text = text.replace(f"float {name}, ", "", 1)
    library.define(text)

    def call(arguments: tuple, scale: float, margin: list[float]) -> Any:
        given = [*arguments[:scale_at], scale, *arguments[scale_at + 1 :]]
        if margin_at is not None:
            given[margin_at:margin_at] = margin
        return op.default(*given)

    def body(*arguments: Any) -> Any:
        scale, *margin = arguments[scale_at].tolist()
        return call(arguments, scale, margin)

    def fake(*arguments: Any) -> Any:
        return call(arguments, 1.0, [1.0] * len(MARGIN))

    qualified = f"{schema.name}.{OVERLOAD}"
    torch.library.impl(qualified, "CompositeExplicitAutograd", body)
    torch.library.register_fake(qualified, fake)


_library = torch.library.Library("bbs_kernels", "FRAGMENT")
for _op in (OPS.cos_lse, OPS.margin_softmax, OPS.cos_lse_backward):
    _define(_library, _op)
