"""The parts of the table of kernels: one `Unit` is one translation unit, one `Kernel` a row of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .work import TYPES, Operands, Work

BASELINE = "CUTLASS bf16 GEMM 128x128x32, 4 stages"


@dataclass(frozen=True)
class Kernel:
    """`symbol`: a pattern that its mangled name matches; demangled names differ between demanglers."""

    name: str
    symbol: str
    threads: int
    work: Work | None = None
    shared: int = 0  # dynamic bytes, where no launch plan gives them

    @property
    def has_main_loop(self) -> bool:
        return self.name == BASELINE or (self.work is not None and self.work.has_main_loop)

    def is_traced(self, names: tuple[str, ...]) -> bool:
        """Whether its accesses are followed where kernels with `names` are. A sweep without the norms has those of the
        one with them."""
        return (
            self.has_main_loop
            and not self.name.endswith(", no norms")
            and any(name in self.name for name in names)
        )

    @property
    def multiply(self) -> str:
        return self.work.multiply if self.work else "HMMA"


@dataclass(frozen=True)
class Unit:
    name: str
    source: str
    kernels: tuple[Kernel, ...]
    cutlass: bool = False


@dataclass(frozen=True)
class Instance:
    """A kernel, and how it is instantiated; `params`: its argument's type."""

    kernel: Kernel
    template: str
    params: str = "ForwardParams"


def flags(*values: bool) -> tuple[str, str]:
    """As template arguments, and mangled."""
    return ", ".join(str(v).lower() for v in values), "".join(f"Lb{int(v)}E" for v in values)


def sweep_types(types: tuple[str, str], several: bool, *values: bool) -> tuple[str, str]:
    """SweepTypes<types, values…>, or SubcenterTypes<…>, whose x is never resident; and its end mangled."""
    rest, mangled = flags(*(values[1:2] if several else values))
    name = "SubcenterTypes" if several else "SweepTypes"
    return f"{name}<{types[0]}, {rest}>", f"{len(name)}{name}.*{types[1]}EE{mangled}"


def tile_types(operands: Operands) -> tuple[str, str]:
    """TileTypes<…>, and its end mangled."""
    op = TYPES[operands.operand]
    layout, mangled = flags(operands.transposed)
    return f"TileTypes<{op}, {operands.w_bytes}, {layout}>", f"{op}ELi{operands.w_bytes}E{mangled}"


def unit_of(name: str, headers: Iterable[str], instances: Iterable[Instance]) -> Unit:
    instances = tuple(instances)
    source = "".join(f'#include "{header}.cuh"\n' for header in headers) + "using namespace bbs::cuda;\n"
    source += "".join(
        f"template __global__ void bbs::cuda::{one.template}(const __grid_constant__ {one.params});\n"
        for one in instances
    )
    return Unit(name, source, tuple(one.kernel for one in instances))
