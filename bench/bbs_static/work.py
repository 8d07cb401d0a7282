"""What an instantiation of a kernel multiplies and how it loads it: the sweep of the forward, the dense backward."""

from __future__ import annotations

from dataclasses import dataclass

PRODUCTS = ("gradient_rows", "gradient_classes")
DENSE = (*PRODUCTS, "coefficients", "normalize_classes")


@dataclass(frozen=True)
class Operands:
    operand: str
    w_bytes: int
    transposed: bool

    @property
    def element(self) -> int:
        return 2 if self.operand in ("bf16", "fp16") else 4

    @property
    def converts(self) -> bool:
        return self.w_bytes != self.element

    @property
    def multiply(self) -> str:
        return "FFMA" if self.operand == "fp32" else "HMMA"

    @property
    def title(self) -> str:
        return f"{self.operand}, {'fp32 W' if self.converts else 'W'} by {'columns' if self.transposed else 'rows'}"


@dataclass(frozen=True)
class Sweep(Operands):
    resident: bool
    vectors: bool = True
    norms: bool = True
    several: bool = False  # centres of a class

    @property
    def name(self) -> str:
        keep = "resident" if self.resident else "streaming" if self.vectors else "any stride"
        several = ", sub-centres" if self.several else ""
        return f"sweep {self.title}{several}, {keep}" + ("" if self.norms else ", no norms")

    @property
    def has_main_loop(self) -> bool:
        """Element-wise loads are loops inside the loop: their cycles depend on the sizes."""
        return self.vectors


@dataclass(frozen=True)
class Dense(Operands):
    """One of the kernels that a run of class tiles launches. gradient_rows multiplies what the others wrote: how w lies
    in memory and in which type does not reach it."""

    kernel: str
    vectors: bool = True
    several: bool = False  # centres of a class

    @property
    def name(self) -> str:
        if self.kernel == "gradient_rows":
            return f"gradient_rows {self.operand}"
        several = ", sub-centres" if self.several else ""
        return f"{self.kernel} {self.title}{several}" + ("" if self.vectors else ", any stride")

    @property
    def has_main_loop(self) -> bool:
        """coefficients multiplies too, by the sweep's loop, but every block does so once and not for long."""
        return self.kernel in PRODUCTS


Work = Sweep | Dense
