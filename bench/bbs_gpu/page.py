"""The page of a GPU's report, from the report alone: every cell is a figure of it, computed from one, or not measured.

Rows come from sizes.py and items.py, so that a report that was cut off, and one of nothing, have the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import tables
from .cells import code, escaped, seconds, table
from .items import ITEMS, Item

SHOWN_FAILURES, SHOWN_LINES = 20, 20

Tables = Callable[[dict[str, Any]], Iterator[str]]
TABLES: dict[str, Tables] = {
    "facts": tables.facts,
    "build": tables.build,
    "steps": tables.steps,
    "ptx": tables.tests,
    "cuda": tables.tests,
    "large": tables.large,
    "kernels": tables.kernels,
    "peers": tables.peers,
    "most_classes": tables.most_classes,
    "sanitizer": tables.sanitizer,
    "graphs": tables.graphs,
    "train": tables.train,
    "compile": tables.compiled,
}


def page(document: dict[str, Any]) -> str:
    """report.md: the whole page."""
    return f"# Report of a GPU\n\n{body(document)}"


def body(document: dict[str, Any]) -> str:
    """Everything below the title: docs/gpu.md is the same under its own."""
    parts = [*_head(document), _overview(document)]
    for item in ITEMS:
        if item.key not in document["items"]:
            continue
        parts.append(f"## {item.title}")
        parts += _state(document["items"][item.key])
        parts += TABLES[item.key](_view(document, item))
    return "\n\n".join(parts) + "\n"


def _view(document: dict[str, Any], item: Item) -> dict[str, Any]:
    """What the tables of an item are made from."""
    items = document["items"]
    return {
        "device": document["device"],
        "data": items[item.key]["data"],
        "peaks": items.get("facts", {}).get("data", {}).get("peaks", {}),
    }


def _head(document: dict[str, Any]) -> Iterator[str]:
    if document["device"] == "cpu":
        yield (
            "**A rehearsal on the CPU**: the same steps at small sizes, without a GPU. Nothing here was timed, and "
            "launch plans are those of an H100."
        )
    if document["began"] is None:
        yield "No report has been made on a GPU yet: every cell below waits for one."
        return
    yield (
        f"Made by `make gpu-report`, {document['began']}, in {document['seconds']:.0f} s of a budget of "
        f"{document['budget']:.0f} s: {document['outcome']}."
    )


def _overview(document: dict[str, Any]) -> str:
    rows = [
        (item.title, record["status"], seconds(record["seconds"]))
        for item in ITEMS
        if (record := document["items"].get(item.key)) is not None
    ]
    return table("item | result | seconds", "::r", rows)


def _state(record: dict[str, Any]) -> Iterator[str]:
    """Why there is less than there could be, and what is wrong."""
    if record["reason"]:
        yield f"*{record['status']}: {escaped(record['reason'])}*"
    if record["failures"]:
        yield code(f"{len(record['failures'])} failures", record["failures"][:SHOWN_FAILURES])
    elif record["output"]:
        yield code("The last lines that it printed", record["output"][-SHOWN_LINES:])
