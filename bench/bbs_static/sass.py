"""Machine code as nvdisasm prints it (-c -hex): instructions with their control codes, and the main loop of a kernel.

The high word of an instruction holds the schedule that the compiler decided; four of its bits are the cycles until the
warp may issue its next instruction. Their sum over the loop is what one warp needs per iteration when every operand is
there in time: what cuxray sums too, where its flow graph finds the loop. The bits lie in the same place from sm_70 on;
cuxray has checked them against hardware up to sm_90.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_SECTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^\s*(\.L_\S+):")
_FIRST = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;?\s*/\* 0x[0-9a-f]{16} \*/")
_SECOND = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")
_PREDICATE = re.compile(r"^@!?U?P\w+\s+")
_TARGET = re.compile(r"`\((\.L_\S+?)\)")
STALL_BIT = 41  # of the high word


@dataclass(frozen=True)
class Instruction:
    address: int
    text: str  # without its predicate
    stall: int  # cycles, as encoded
    target: int | None = None  # of a branch

    @property
    def opcode(self) -> str:
        return self.text.split()[0].split(".")[0]

    @property
    def cycles(self) -> int:
        return max(1, self.stall)


@dataclass(frozen=True)
class Loop:
    instructions: tuple[Instruction, ...]

    @property
    def start(self) -> int:
        return self.instructions[0].address

    @property
    def end(self) -> int:
        return self.instructions[-1].address

    def __contains__(self, address: int) -> bool:
        return self.start <= address <= self.end

    @property
    def cycles(self) -> int:
        return sum(i.cycles for i in self.instructions)

    def count(self, opcode: str) -> int:
        return sum(i.opcode == opcode for i in self.instructions)

    def cycles_of(self, opcode: str) -> int:
        return sum(i.cycles for i in self.instructions if i.opcode == opcode)

    def mix(self) -> dict[str, int]:
        """Instructions by opcode, most frequent first."""
        return dict(Counter(i.opcode for i in self.instructions).most_common())


def parse(text: str) -> dict[str, list[Instruction]]:
    """Functions by mangled name."""
    functions: dict[str, list[Instruction]] = {}
    rows: list[tuple[int, str]] = []
    stalls: list[int] = []
    labels: dict[str, int] = {}
    waiting: list[str] = []
    name = ""

    def close() -> None:
        if not rows:
            return
        functions[name] = [
            Instruction(address, body, stall, labels.get(target.group(1)) if target else None)
            for (address, body), stall in zip(rows, stalls, strict=True)
            for target in [_TARGET.search(body) if body.startswith("BRA") else None]
        ]

    for line in text.splitlines():
        if section := _SECTION.match(line):
            close()
            name, rows, stalls, labels, waiting = section.group(1), [], [], {}, []
        elif label := _LABEL.match(line):
            waiting.append(label.group(1))
        elif first := _FIRST.match(line):
            address = int(first.group(1), 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
            rows.append((address, _PREDICATE.sub("", first.group(2))))
        elif second := _SECOND.match(line):
            stalls.append(int(second.group(1), 16) >> STALL_BIT & 15)
    close()
    return functions


def main_loop(instructions: list[Instruction], opcode: str) -> Loop | None:
    """Of the innermost loops that hold `opcode`, the one with the most. A loop is what a backward branch spans."""
    loops = [
        Loop(tuple(i for i in instructions if branch.target <= i.address <= branch.address))
        for branch in instructions
        if branch.target is not None and branch.target <= branch.address
    ]
    holding = [loop for loop in loops if loop.count(opcode)]
    innermost = [
        loop
        for loop in holding
        if not any(other is not loop and other.start in loop and other.end in loop for other in holding)
    ]
    return max(innermost, key=lambda loop: loop.count(opcode), default=None)
