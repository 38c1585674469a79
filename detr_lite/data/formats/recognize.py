"""Which format a dataset folder has, and where its splits are."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from detr_lite.data.formats.coco import find_coco
from detr_lite.data.formats.createml import find_createml
from detr_lite.data.formats.csv_table import find_csv
from detr_lite.data.formats.cvat import find_cvat
from detr_lite.data.formats.folder_tree import FolderTree, read_tree, stem_of, suffix_of
from detr_lite.data.formats.label_studio import find_label_studio
from detr_lite.data.formats.labelme import find_labelme
from detr_lite.data.formats.source import Source as Source
from detr_lite.data.formats.voc import find_voc
from detr_lite.data.formats.yolo import find_yolo
from detr_lite.data.formats.yolo_labels import is_label
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list

logger = logging.getLogger(__name__)

Finder = Callable[[FolderTree], Source | None]

FINDERS: tuple[Finder, ...] = (
    find_yolo,
    find_voc,
    find_cvat,
    find_labelme,
    find_label_studio,
    find_createml,
    find_csv,
)
"""After COCO's; where a folder has several formats, the first one is used."""

ONE_IMAGE_EACH = {"Pascal VOC": (".xml", b"<object"), "LabelMe": (".json", b'"points"')}
"""Formats with an annotation file for each image: its suffix, and what such a file has only if there is an object."""

EXPECTED = (
    "expected are COCO, YOLO, Pascal VOC, CVAT XML, LabelMe, Label Studio JSON, Create ML or CSV; give the dataset's "
    "folder"
)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_UNREADABLE = {
    **dict.fromkeys((".tfrecord", ".tfrecords", ".record"), "TFRecord files: export the dataset as COCO"),
    **dict.fromkeys((".parquet", ".arrow"), "Parquet or Arrow files: export the dataset as COCO"),
    **dict.fromkeys(
        (".mat", ".npy", ".npz", ".pkl", ".h5", ".hdf5"), "arrays of a program: export the dataset as COCO"
    ),
}


def refuse_no_data(root: Path) -> None:
    """Called before slow imports. Errors: those of `find_source` for a folder that is missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        find_source(root)


def find_source(root: Path) -> Source:
    """Recognize the format of a dataset by the names of its files, and where those do not settle it by their content.

    Args:
        root: the dataset's folder, or its annotation file (a data.yaml, JSON, CSV or XML file).

    Raises `DetrLiteError` for a missing or empty folder and for one without annotations of a known format; the error
    says what was found and what is expected.
    """
    if not root.exists():
        raise DetrLiteError(f"{printable(root)}: no such data folder; give the dataset's folder with --data.root DIR")
    if root.is_file() and suffix_of(root.name) in _ARCHIVES:
        raise DetrLiteError(f"{printable(root)}: an archive; unpack it and give the folder")
    coco: Source | None = find_coco(root)
    if coco is not None and "train" in coco.splits:
        return _naming_others(coco, cache(lambda: read_tree(root)), FINDERS)
    tree = read_tree(root)
    for place, find in enumerate(FINDERS):
        source = find(tree)
        # Ultralytics' copy of COCO has training annotations in YOLO's format alone.
        if source is None or (coco is not None and "train" not in source.splits):
            continue
        if tree.chosen is not None and source.format in ONE_IMAGE_EACH:
            raise DetrLiteError(
                f"{printable(root)}: the annotation of one image ({source.format}); give the dataset's folder"
            )
        return _naming_others(source, lambda: tree, FINDERS[place + 1 :])
    if coco is not None:
        return coco
    raise DetrLiteError(f"{printable(root)}: {_describe(tree)}")


def _naming_others(source: Source, get_tree: Callable[[], FolderTree], finders: tuple[Finder, ...]) -> Source:
    """The source, which logs when it is first read which other formats the folder has.

    A dataset that is read from the cache need not be searched for them.
    """

    @cache
    def say_others() -> None:
        others = [format for find in finders if (format := _format_found(find, get_tree()))]
        if others:
            logger.info(
                f"{printable(source.root)}: read as {source.format}, but there are {shorten_list(others)} annotations "
                f"too; to use those, give their file instead of the folder, or move the {source.format} ones away"
            )

    def read(split: str, report: SplitReport) -> RawSplit:
        say_others()
        if source.format == "YOLO":
            _refuse_half_labeled(get_tree())
        return source.read(split, report)

    return replace(source, read=read)


def _refuse_half_labeled(tree: FolderTree) -> None:
    """Raise `DetrLiteError` if images without a YOLO label, which count as empty, have objects in another format."""
    images = {stem_of(path) for path in tree.images}
    unlabeled = images - {stem_of(path) for path in tree.by_suffix.get(".txt", ())}
    for format, (suffix, mark) in ONE_IMAGE_EACH.items():
        candidates = [path for path in tree.by_suffix.get(suffix, ()) if stem_of(path) in unlabeled]
        labeled = [path for path in candidates if mark in (tree.root / path).read_bytes()]
        if labeled:
            count = f"{len(labeled):,} image{'s have' if len(labeled) > 1 else ' has'}"
            raise DetrLiteError(
                f"{printable(tree.root)}: {count} no YOLO label but objects in {format} files "
                f"({printable(shorten_list(labeled, 3))}), so that YOLO would teach that nothing is there; put the "
                "files of each format in a folder of its own, and join them with prepare-data merge"
            )


def _format_found(find: Finder, tree: FolderTree) -> str | None:
    try:
        source = find(tree)
    except DetrLiteError:  # it is not used
        return None
    return None if source is None else source.format


def _describe(tree: FolderTree) -> str:
    """What a folder without known annotations holds, and what to do."""
    if not tree.folders:
        return f"the data folder is empty; {EXPECTED}"
    counts = Counter({suffix: len(paths) for suffix, paths in tree.by_suffix.items()})
    total = f"{sum(counts.values()):,} file{'s' * (sum(counts.values()) != 1)}"
    kinds = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in counts.most_common()]
    found = f"{total} ({printable(shorten_list(kinds))})"
    for suffix in counts:
        if suffix in _UNREADABLE:
            return f"no annotations that can be read in {found}: {_UNREADABLE[suffix]}"
    archives = [path for suffix in _ARCHIVES for path in tree.by_suffix.get(suffix, ())]
    if archives:
        return f"no annotations in {found}; unpack {printable(shorten_list(archives, 2))}"
    images = sum(count for suffix, count in counts.items() if suffix in IMAGE_SUFFIXES)
    labels = next((path for path in tree.by_suffix.get(".txt", ())[:1000] if is_label(tree, path)), None)
    if labels is not None and images:
        return (
            f"{printable(labels)} has labels in YOLO's format, but no image has its label file where it is looked for: "
            "labels/train/a.txt for images/train/a.jpg, or beside the image; move the folders so"
        )
    others = [path for suffix in (".json", ".xml", ".csv", ".txt", ".yaml") for path in tree.by_suffix.get(suffix, ())]
    if others:
        return f"no annotations of a known format in {found}, also not in {printable(others[0])}; {EXPECTED}"
    if images:
        return f"{images:,} images and no annotations; {EXPECTED}"
    return f"no images and no annotations in {found}; {EXPECTED}"
