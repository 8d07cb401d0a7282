"""What one cubin says about its kernels: registers and spills, the main loop, cuxray's verdict on its accesses."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from .images import CACHE
from .kernels import Kernel
from .sass import Loop, main_loop, parse
from .tools import Tools

HMMA_PER_K_STEP = 32  # of a 64 x 64 warp tile: 4 x 8 mma, whatever the type
FFMA_LOOP_K_STEPS = 0.5  # an iteration multiplies 16 bytes of each operand, half a k-step


@dataclass(frozen=True)
class Accesses:
    """Of the main loop, by cuxray from the address arithmetic. `untraced`: what it cannot follow, by reason."""

    shared: int = 0
    conflicts: int = 0
    shared_untraced: int = 0
    global_reads: int = 0
    uncoalesced: int = 0
    untraced: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cycles:
    """Of the main loop, for one warp and one iteration."""

    per_iteration: int
    k_steps: float
    multiplies: int
    multiply_cycles: int
    flops: int
    mix: dict[str, int]

    @property
    def per_k_step(self) -> float:
        return self.per_iteration / self.k_steps

    @property
    def per_multiply(self) -> float:
        return self.per_iteration / self.multiplies

    @property
    def multiply_share(self) -> float:
        return self.multiply_cycles / self.per_iteration

    @property
    def flops_per_cycle(self) -> float:
        return self.flops / self.per_iteration


@dataclass(frozen=True)
class Binary:
    kernel: Kernel
    registers: int
    spilled_bytes: int
    static_shared: int
    cycles: Cycles | None
    accesses: Accesses | None


def measure_loop(loop: Loop, opcode: str) -> Cycles:
    multiplies = loop.count(opcode)
    if opcode == "FFMA":
        k_steps, flops = FFMA_LOOP_K_STEPS, 2 * 32 * multiplies
    else:
        depth = 16 if any(i.text.startswith("HMMA.16816") for i in loop.instructions) else 8
        k_steps, flops = multiplies / HMMA_PER_K_STEP, 2 * 16 * 8 * depth * multiplies
    return Cycles(loop.cycles, k_steps, multiplies, loop.cycles_of(opcode), flops, loop.mix())


def inspect(cubin: Path, kernels: tuple[Kernel, ...], tools: Tools, traced: tuple[str, ...]) -> list[Binary]:
    from cuxray.analyze.access import analyze_accesses
    from cuxray.analyze.spillmap import spill_map
    from cuxray.parse import resusage, sass

    def run(*command: str | Path) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    listing = parse(run(tools.nvdisasm, "-c", "-hex", cubin))
    lined = sass.parse_gi(run(tools.nvdisasm, "-c", "-gi", cubin)).functions
    usage = resusage.parse(run(tools.cuobjdump, "--dump-resource-usage", cubin))
    found = []
    for kernel in kernels:
        name = kernel.symbol
        spills = spill_map(lined[name])
        loop = main_loop(listing[name], kernel.multiply) if kernel.has_main_loop else None
        accesses = None
        if loop and kernel.is_traced(traced):
            # Named after the machine code: the same code from other sources needs no new analysis.
            code = hashlib.sha256(f"{listing[name]}{kernel.threads}".encode()).hexdigest()[:16]
            kept = CACHE / f"accesses.{code}.{version('cuxray')}.json"
            if not kept.exists():  # half a minute of data flow analysis
                verdicts = analyze_accesses(lined[name], (kernel.threads, 1, 1))
                CACHE.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(asdict(_accesses_in(loop, verdicts))), encoding="utf-8")
            accesses = Accesses(**json.loads(kept.read_text(encoding="utf-8")))
        found.append(
            Binary(
                kernel,
                usage[name].reg,
                spills["store_bytes"] + spills["load_bytes"],
                usage[name].shared,
                measure_loop(loop, kernel.multiply) if loop else None,
                accesses,
            )
        )
    return found


def _accesses_in(loop: Loop, verdicts: dict) -> Accesses:
    known = [a for a in verdicts["accesses"] if a["addr"] in loop]
    unknown = [a for a in verdicts["unanalyzed"] if a["addr"] in loop]
    return Accesses(
        shared=sum(a["space"] == "shared" for a in known),
        conflicts=sum(a["verdict"] == "conflict" for a in known),
        shared_untraced=sum(a.get("space") == "shared" for a in unknown),
        global_reads=sum(a["space"] == "global" for a in known),
        uncoalesced=sum(a["verdict"] == "uncoalesced" for a in known),
        untraced=dict(Counter(a["reason"] for a in unknown if a.get("space") != "shared")),
    )
