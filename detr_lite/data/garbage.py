"""Recognizes annotations that are wrong as a whole, such as corners in place of sizes."""

from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport


def refuse_garbage(raw: RawSplit, report: SplitReport) -> None:
    """Called before single annotations are judged; all sizes of images must be known."""
