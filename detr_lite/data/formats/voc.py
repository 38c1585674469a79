"""Datasets in Pascal VOC's format: an XML file for each image.

VOC's own files count pixels from 1 and include the last one: a box over the whole image is (1, 1, width, height). The
tools that write the format today count from 0 or in fractions, and their boxes are read as they stand.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from math import nan
from pathlib import Path

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import BadFileError, read_head, read_text, read_xml, to_size
from detr_lite.data.formats.box_shapes import around, around_rotated, from_corners
from detr_lite.data.formats.folder_tree import (
    FolderTree,
    common_folder,
    folder_of,
    group_by_split,
    stem_of,
)
from detr_lite.data.formats.paired_images import ImageFinder
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh, reader_of
from detr_lite.data.formats.values import number_of
from detr_lite.data.split_names import SPLIT_WORDS

_ROOT = re.compile(r"<(?:\w+:)?annotation[\s>]")
_LISTS = "ImageSets/Main"
_OWN_DATABASE = re.compile(r"\bVOC20[01]\d\b")
"""In the source of VOC's own files: "The VOC2007 Database"."""

_HEADS = 20
"""Files whose first lines are looked at to recognize the format."""


def find_voc(tree: FolderTree) -> Source | None:
    paths = sorted(tree.files(".xml"))
    if not any(_ROOT.search(read_head(tree.root / path)[:4000]) for path in paths[:: max(1, len(paths) // _HEADS)]):
        return None
    listed = _read_lists(tree, paths)
    splits = listed or group_by_split(paths, with_file_name=False)
    used = [path for group in splits.values() for path in group]
    images = ImageFinder(tree, paths)

    def files(split: str) -> list[Path]:
        """The classes are those of all splits, so that all files matter."""
        folders = sorted({folder_of(path) for path in used})
        lists = [path for path in tree.by_suffix.get(".txt", ()) if folder_of(path).endswith(_LISTS)]
        return [tree.root / path for path in (*folders, *lists, *used)]

    def parse(split: str) -> SplitBuilder:
        return _parse(tree, splits[split], images, note_unlabeled=not listed)

    sources = {split: common_folder(tree.root, group) for split, group in splits.items()}
    return Source(tree.root, "Pascal VOC", sources, reader_of(splits, parse), files)


def _read_lists(tree: FolderTree, paths: list[str]) -> dict[str, list[str]]:
    """The annotation files of each split by the lists in ImageSets/Main, of every VOC year there is."""
    by_place: dict[tuple[str, str], str] = {}
    for path in paths:
        by_place[folder_of(folder_of(path)), stem_of(path)] = path
    splits: dict[str, list[str]] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for path in sorted(tree.by_suffix.get(".txt", ())):
        if folder_of(path).endswith(_LISTS) and stem_of(path) in SPLIT_WORDS:
            names[stem_of(path)].append(path)
    if "train" in names:
        names.pop("trainval", None)  # the union of two others
    for name, files in names.items():
        for file in files:
            home = file.removesuffix(f"{_LISTS}/{name}.txt").rstrip("/")
            for line in read_text(tree.root / file).splitlines():
                words = line.split()
                found = [by_place[home, each] for each in (line.strip(), *words[:1]) if (home, each) in by_place]
                splits.setdefault(SPLIT_WORDS[name], []).extend(found[:1])
    return {split: list(dict.fromkeys(splits[split])) for split in ("train", "val", "test") if splits.get(split)}


def _parse(tree: FolderTree, paths: list[str], images: ImageFinder, note_unlabeled: bool) -> SplitBuilder:
    found = {path: images.find(path) for path in paths}
    used = {image for image in found.values() if image is not None}
    builder = SplitBuilder(tree.root, "object", images.folders(used) or [tree.root])
    for path in tqdm(paths, "annotations", unit="file", leave=False, disable=None):
        try:
            root = read_xml(tree.root / path)
        except BadFileError as error:
            builder.skip("bad_file", "images whose annotation file cannot be read", f"{path}: {error}", "image")
            continue
        if root.tag != "annotation":
            builder.note("other_file", "XML files that are no annotations are not read", path)
            continue
        _add_image(builder, root, path, found[path], tree.root)
    if note_unlabeled:
        images.note_unlabeled(builder, used)
    return builder


def _add_image(builder: SplitBuilder, root: ElementTree.Element, path: str, image: str | None, folder: Path) -> None:
    name = image or (root.findtext("filename") or "").strip() or f"{stem_of(path)}.jpg"
    width, height = (to_size(root.findtext(f"size/{side}")) for side in ("width", "height"))
    place = builder.add_image(name, path, None if image is None else str(folder / image), width, height)
    is_from_one = _OWN_DATABASE.search(root.findtext("source/database") or "") is not None
    if is_from_one:
        builder.note("from_one", "boxes of VOC's own files, which count pixels from 1, are moved to count from 0", path)
    for number, element in enumerate(root.iterfind("object"), 1):
        entry = f"{path} object {number}"
        label = builder.class_name(element.findtext("name"), entry)
        if label is None:
            continue
        box = _box_of(builder, element, entry)
        if box is None:
            builder.skip("no_box", "objects without a box", entry)
            continue
        if is_from_one:
            left, top, width, height = box
            box = left - 1, top - 1, width + 1, height + 1
        is_difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
        if is_difficult:
            builder.note(
                "difficult", 'objects marked "difficult" are not trained on, and in evaluation neither right nor wrong',
                entry,
            )  # fmt: skip
        builder.add_object(place, label, box, number, is_crowd=is_difficult)


def _box_of(builder: SplitBuilder, element: ElementTree.Element, entry: str) -> Xywh | None:
    box = element.find("bndbox")
    if box is not None:
        left, top, right, bottom = (number_of(box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))
        return from_corners(left, top, right, bottom)
    rotated = element.find("robndbox")
    if rotated is not None:
        x, y, width, height, angle = (number_of(rotated.findtext(key)) for key in ("cx", "cy", "w", "h", "angle"))
        builder.note("rotated", "rotated boxes are read as the upright boxes around them", entry)
        return around_rotated(x, y, width, height, angle)
    points = _points(element.find("polygon"))
    if points:
        builder.note("polygon", "outlines are read as the boxes around them", entry)
        return around(points)
    return None


def _points(polygon: ElementTree.Element | None) -> list[tuple[float, float]]:
    """Of x1, y1, x2, y2 ... as Roboflow and LabelMe's converters write them, or of pt elements."""
    if polygon is None:
        return []
    values = {child.tag: number_of(child.text) for child in polygon if not len(child)}
    points = [(values[f"x{n}"], values.get(f"y{n}", nan)) for n in range(1, len(values) + 1) if f"x{n}" in values]
    nested = [(number_of(child.findtext("x")), number_of(child.findtext("y"))) for child in polygon if len(child)]
    return points or nested
