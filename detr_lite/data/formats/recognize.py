"""Which format a dataset folder has, and where its splits are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport
from detr_lite.structures import DetrLiteError


@dataclass(frozen=True)
class Source:
    """A dataset whose format has been recognized."""

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


def find_source(root: Path) -> Source:
    """Recognize the format of a dataset by the names of its files, and where those do not settle it by their content.

    Raises `DetrLiteError` for a missing or empty folder and for one without annotations of a known format; the error
    says what was found and what is expected.
    """
    from detr_lite.data.formats.coco import find_coco

    if not root.is_dir():
        raise DetrLiteError(f"{root}: no such data folder; give the dataset's folder with --data.root DIR")
    source = find_coco(root)
    if source is None:
        raise DetrLiteError(f"{root}: contains no annotations in a known format; give a dataset with --data.root DIR")
    return source
