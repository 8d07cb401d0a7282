"""What was found beside the images and left out, so that nothing vanishes without a word."""

from __future__ import annotations

from dataclasses import dataclass, field

from .names import listed

_EXAMPLES = 20


@dataclass
class Skipped:
    """Per reason the number of things left out and the first of them: a million would not fit a message.

    counts: {"files that are not images": 12}; examples: {the same reason: [first 20 paths]}.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, *what: str) -> None:
        """Counts these."""
        if what:
            self.counts[reason] = self.counts.get(reason, 0) + len(what)
            first = self.examples.setdefault(reason, [])
            first += what[: _EXAMPLES - len(first)]

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return "; ".join(
            f"{reason}: {count:,} ({listed(self.examples[reason], count)})"
            for reason, count in self.counts.items()
        )
