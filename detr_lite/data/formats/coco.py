"""Datasets in COCO format, in any of the layouts in which they are handed on."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.array_structures import Category
from detr_lite.data.formats.coco_columns import (
    AnnotationColumns,
    ImageColumns,
    read_annotations,
    read_categories,
    read_images,
)
from detr_lite.data.formats.coco_json import CocoLists, Entry, name_annotation, read_lean, read_lists
from detr_lite.data.formats.coco_layouts import CocoLayout, find_layout
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.values import number_of
from detr_lite.data.images.names import resolve_images
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, printable, shorten_list, shown


def find_coco(path: Path) -> Source | None:
    """The dataset in a folder, or that of one annotation file; None without annotations in COCO format."""
    layout = find_layout(path)
    if layout is None:
        return None
    root = layout.root
    splits = {split: files[0] for split, files in layout.files.items()}

    def read(split: str, report: SplitReport) -> RawSplit:
        file = _only_file(layout, split)
        lists = read_lists(file, relative_name(file, root), report)
        lists = replace(lists, categories=_drop_placeholder(lists, layout, split, report))
        return read_coco(lists, layout.image_folders(split, file), root, report)

    def files(split: str) -> list[Path]:
        folders = [folder for folder in layout.image_folders(split, splits[split]) if folder.is_dir()]
        return [*layout.files[split], *folders]

    return Source(root, "COCO", splits, read, files)


def read_coco(lists: CocoLists, folders: list[Path], root: Path, report: SplitReport) -> RawSplit:
    """The split of a file's lists, with the images found in `folders` or elsewhere in the dataset folder `root`."""
    images, categories, annotations = read_entries(lists, report)
    raw = RawSplit(
        categories,
        images.ids,
        images.names,
        resolve_images(images.names, folders, root, report),
        images.sizes_wh,
        annotations.image_index,
        annotations.labels,
        annotations.boxes_xywh,
        annotations.areas,
        annotations.is_crowd,
        annotations.places,
        _annotation_names(lists),
    )
    return _join_repeated_images(raw, report)


def read_entries(lists: CocoLists, report: SplitReport) -> tuple[ImageColumns, tuple[Category, ...], AnnotationColumns]:
    """The lists as arrays. Image files are not looked for."""
    images = read_images(lists.images, report)
    categories, category_index, labels = read_categories(lists.categories, report)
    if lists.categories:
        return images, categories, read_annotations(lists, images, category_index, labels, report)
    used = list(dict.fromkeys(shown(entry.get("category_id")) for entry in lists.annotations))
    report.refuse(
        "no_categories",
        f'there are no "categories"; list a name for each id that annotations have ({shorten_list(used)}), such as '
        '{"id": 1, "name": "cup"}',
    )
    without = replace(lists, annotations=[], annotation_numbers=[])
    return images, categories, read_annotations(without, images, category_index, labels, report)


def relative_name(file: Path, root: Path) -> str:
    """How messages call a file of the dataset."""
    return printable(file.relative_to(root).as_posix() if file.is_relative_to(root) else file)


def _only_file(layout: CocoLayout, split: str) -> Path:
    files = layout.files[split]
    if len(files) > 1:
        names = [relative_name(file, layout.root) for file in files]
        raise DetrLiteError(
            f"{printable(layout.root)}: {len(files)} files may be the annotations of split {split} "
            f"({shorten_list(names)}); give one of them instead of the folder, move the others away, or join them all: "
            f"{command_line('prepare-data')} merge {' '.join(map(shlex.quote, map(str, files[:2])))} joined_data"
        )
    return files[0]


def _annotation_names(lists: CocoLists) -> Callable[[int], str]:
    """`CocoLists.name_annotation` without the rest of the lists, which need not stay in memory."""
    ids = [entry.get("id") for entry in lists.annotations]
    numbers = lists.annotation_numbers
    return lambda place: name_annotation(ids[place], numbers[place])


def _join_repeated_images(raw: RawSplit, report: SplitReport) -> RawSplit:
    """One image for all ids of a file: some exporters list an image once for each of its objects."""
    first_of: dict[str, int] = {}
    firsts = np.array(
        [first_of.setdefault(path, place) if path else place for place, path in enumerate(raw.paths)], dtype=np.int64
    )
    is_first = firsts == np.arange(len(firsts))
    if is_first.all():
        return raw
    is_repeated = (np.bincount(firsts, minlength=len(firsts)) > 1)[firsts]
    names = [raw.names[place] for place in np.flatnonzero(is_repeated)]
    what, remedy = "images listed under several ids", "are joined, each with the objects of all its ids"
    if not report.repair("repeated_image", what, remedy, names, unit="image"):
        return raw.keep_images(~is_repeated)
    return replace(raw, image_index=firsts[raw.image_index]).keep_images(is_first)


def _drop_placeholder(lists: CocoLists, layout: CocoLayout, split: str, report: SplitReport) -> list[Entry]:
    """Without Roboflow's entry for the project itself: category 0, the supercategory of all others.

    With objects in any split it is a class, and is kept in all splits: training and validation need the same classes.
    """
    entries = lists.categories
    roots = [entry for entry in entries if number_of(entry.get("id")) == 0 and entry.get("supercategory") == "none"]
    others = [entry for entry in entries if number_of(entry.get("id")) != 0]
    if len(roots) != 1 or not others or any(entry.get("supercategory") != roots[0].get("name") for entry in others):
        return entries
    if _uses_category_0(lists.annotations):
        return entries
    for file in [file for other, files in layout.files.items() if other != split for file in files]:
        found = read_lean(file, relative_name(file, layout.root)).get("annotations") or []
        if _uses_category_0(found.values() if isinstance(found, dict) else found):
            return entries
    report.note(
        "placeholder_category",
        f"category 0, {shown(roots[0].get('name'))}, is left out: it has no objects and is the supercategory of all "
        "others",
    )
    return others


def _uses_category_0(annotations: Iterable[Any]) -> bool:
    return any(isinstance(entry, dict) and number_of(entry.get("category_id")) == 0 for entry in annotations)
