"""Classes of different baskets that training found to be one identity: search, confidence, report, decisions.

    run = bs.training.load_run("runs/first")
    prototypes = class_prototypes(run.backbone, run.baskets, run.config.image.build())
    overlaps = find_overlaps(prototypes, run.head.baskets)

`bbs overlaps` does this and writes a CSV and a page.
"""

from ..matching import MutualPairs, comparisons, mutual_nearest, mutual_nearest_within
from .decisions import Persons, persons, read_decisions
from .find import NoConfidence, Overlaps, find_overlaps
from .names import ClassNames
from .page import write_page
from .prototypes import class_prototypes
from .report import read_report, write_report

__all__ = [
    "ClassNames",
    "MutualPairs",
    "NoConfidence",
    "Overlaps",
    "Persons",
    "class_prototypes",
    "comparisons",
    "find_overlaps",
    "mutual_nearest",
    "mutual_nearest_within",
    "persons",
    "read_decisions",
    "read_report",
    "write_page",
    "write_report",
]
