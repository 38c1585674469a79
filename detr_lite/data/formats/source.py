"""A dataset whose format has been recognized."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport


@dataclass(frozen=True)
class Source:
    """A dataset whose format has been recognized, and whose annotations have yet to be read."""

    root: Path
    format: str
    """Such as "COCO", "YOLO" or "Pascal VOC", for messages."""
    splits: dict[str, Path]
    """The annotation file or folder of each split, by "train", "val" and "test"; a dataset without splits is "train".
    """
    read: Callable[[str, SplitReport], RawSplit]
    """Reads a split of `splits`."""
    files: Callable[[str], list[Path]]
    """The annotation files of a split, and the folders whose lists of files matter: what a cached result depends on."""
