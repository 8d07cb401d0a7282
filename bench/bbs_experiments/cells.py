"""What is compared: each cell is a way to make datasets out of the characters, in which every rule is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """name; regime: of the demo; wrong_labels: share wrong within their basket; title: for people."""

    name: str
    regime: str
    wrong_labels: float
    title: str


CELLS = {
    cell.name: cell
    for cell in (
        Cell("many", "many", 0.0, "many small baskets"),
        Cell("style", "style", 0.0, "few large baskets, split by style"),
        Cell("many-wrong-5", "many", 0.05, "many small baskets, 5 % of the labels wrong"),
        Cell("many-wrong-20", "many", 0.2, "many small baskets, 20 % of the labels wrong"),
    )
}
NAMES = {
    "all": "`all`: naive merge",
    "own": "`own`: one head per dataset",
    "below-mistuned": "`below-mistuned`: DAIL threshold 0.6",
    "below-tuned": "`below-tuned`: DAIL threshold 0.4",
    "bbs": "`bbs`: the default rule, k = 16",
    "linker": "`linker`: the default rule with `IdentityLinker`",
    "oracle": "`oracle`: labels merged by true identity",
}
RULES = tuple(NAMES)
NAMES["linker-exclude"] = "`linker-exclude`: links exclude, no labels are exchanged"
NAMES["linker-twice"] = "`linker-twice`: a second training that starts with the links of the first"
