"""Attributes that record-keeper logs, with pytorch-metric-learning's names: `_record_these`, `_record_these_stats`."""

from __future__ import annotations

from collections.abc import Sequence

from .upstream import global_collect_stats


class Records:
    """Mixin: the lists of recorded attributes, and whether statistics are among them."""

    collect_stats: bool

    def start_records(self, collect_stats: bool | None) -> None:
        """Set `collect_stats`: as given, or pytorch-metric-learning's global `COLLECT_STATS` for None."""
        self.collect_stats = global_collect_stats() if collect_stats is None else collect_stats

    def add_to_recordable_attributes(
        self, name: str | None = None, list_of_names: Sequence[str] | None = None, is_stat: bool = False
    ) -> None:
        """Have attributes recorded, beginning at 0; a statistic only if `collect_stats` is set."""
        if is_stat and not self.collect_stats:
            return
        key = "_record_these_stats" if is_stat else "_record_these"
        recorded: list[str] = getattr(self, key, [])
        for each in ([] if name is None else [name]) + list(list_of_names or ()):
            if each not in recorded:
                recorded.append(each)
            if not hasattr(self, each):
                setattr(self, each, 0)
        setattr(self, key, recorded)

    def reset_stats(self) -> None:
        """Set every recorded statistic to 0."""
        for name in getattr(self, "_record_these_stats", ()):
            setattr(self, name, 0)
