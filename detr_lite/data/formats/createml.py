"""Datasets in Apple's Create ML format: one JSON list of images with boxes given by their centers."""

import re
from typing import Any

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import to_size
from detr_lite.data.formats.folder_tree import FolderTree
from detr_lite.data.formats.json_lists import find_json_lists
from detr_lite.data.formats.relative_boxes import are_relative
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh
from detr_lite.data.formats.values import number_of

_COORDINATES = re.compile(r'"(coordinates|imagefilename)"\s*:')


def find_createml(tree: FolderTree) -> Source | None:
    return find_json_lists(tree, "Create ML", "object", _COORDINATES, _add_images)


def _add_images(builder: SplitBuilder, entries: list[Any], path: str) -> None:
    is_relative = are_relative(_center_box(each) for entry in entries for each in _annotations(entry))
    if is_relative:
        builder.note("relative", f"{path}: all boxes are within 0 and 1 and are read as shares of the image's size")
    builder.read_all_sizes()
    for number, entry in enumerate(tqdm(entries, "annotations", unit="image", leave=False, disable=None), 1):
        content = entry if isinstance(entry, dict) else {}
        name = content.get("image") or content.get("imagefilename") or content.get("filename")
        if not isinstance(name, str) or not name.strip():
            builder.skip("no_name", "entries without the name of an image", f"{path} entry {number}", "image")
            continue
        given = content.get("imageSize")
        size = given if isinstance(given, dict) else {}
        image = builder.add_image(name, name, None, to_size(size.get("width")), to_size(size.get("height")))
        for count, annotation in enumerate(_annotations(entry), 1):
            label = builder.class_name(annotation.get("label"), f"{name} object {count}")
            if label is not None:
                x, y, w, h = _center_box(annotation)
                builder.add_object(image, label, (x - w / 2, y - h / 2, w, h), count, is_relative)


def _annotations(entry: object) -> list[dict[str, Any]]:
    """Under "annotations" as most tools write it, or "annotation" as newer versions of Create ML do."""
    given = (entry.get("annotations") or entry.get("annotation") or []) if isinstance(entry, dict) else []
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _center_box(annotation: dict[str, Any]) -> Xywh:
    """Center and size; NaN where they are no numbers."""
    given = annotation.get("coordinates")
    values = given if isinstance(given, dict) else {}
    x, y, w, h = (number_of(values.get(key)) for key in ("x", "y", "width", "height"))
    return x, y, w, h
