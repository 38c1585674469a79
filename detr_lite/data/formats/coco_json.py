"""Parses a COCO annotation file into its three lists, without the parts that detection does not need."""

import gc
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from detr_lite.data.formats.json_file import kind_of_json, read_json
from detr_lite.data.report import SplitReport, Unit
from detr_lite.errors import DetrLiteError
from detr_lite.text import shown

Entry = dict[str, Any]

UNUSED = ("coco_url", "flickr_url", "date_captured", "license", "rle", "keypoints", "attributes", "extra")


@dataclass(frozen=True)
class CocoLists:
    """The entries of a file, in file order; every entry is an object."""

    images: list[Entry]
    annotations: list[Entry]
    annotation_numbers: list[int] | range
    """The place of each annotation in the file's list, counted from 0."""
    categories: list[Entry]

    def name_annotation(self, place: int) -> str:
        """How messages call the annotation at this place of `annotations`."""
        return name_annotation(self.annotations[place].get("id"), self.annotation_numbers[place])


def name_annotation(id: object, number: int) -> str:
    """By its id if it has one, else by its place in the file."""
    return f"annotation {id}" if isinstance(id, int | float | str) else f'entry {number} of "annotations"'


def read_lists(file: Path, name: str, report: SplitReport) -> CocoLists:
    """Parse the file. Entries that are not objects are left out and reported.

    A file of 860,000 annotations takes about twice its size in memory while it is read.

    Raises `DetrLiteError` for what is not JSON, or not COCO; the error calls the file `name`.
    """
    content = read_lean(file, name)
    if "annotations" not in content or content["annotations"] is None:
        report.refuse(
            "no_annotations", 'it has no "annotations"; add them, or "annotations": [] if no image has an object'
        )
    images, _ = _entries(content, "images", name, report)
    report.totals["image"] = len(images) + report.skipped["image"]
    annotations, numbers = _entries(content, "annotations", name, report)
    report.totals["annotation"] = len(annotations) + report.skipped["annotation"]
    categories, _ = _entries(content, "categories", name, report)
    return CocoLists(images, annotations, numbers, categories)


def read_lean(file: Path, name: str) -> Entry:
    """The file's object. Outlines of annotations that have a box are left out.

    Raises `DetrLiteError` for what is not JSON, or not COCO.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # it would search millions of new objects again and again, of which none is garbage
    try:
        content = read_json(file, name, object_hook=_drop_unused)
    finally:
        if was_enabled:
            gc.enable()
    if not isinstance(content, dict) or not isinstance(content.get("images"), list | dict):
        missing = 'its "images" are not a list' if isinstance(content, dict) and "images" in content else 'no "images"'
        raise DetrLiteError(
            f"{name}: JSON, but not COCO: it looks like {kind_of_json(content)} ({missing}); COCO is an object with "
            '"images", "annotations" and "categories", convert the file'
        )
    for key in ("annotations", "categories"):
        if content.get(key) is not None and not isinstance(content[key], list | dict):
            raise DetrLiteError(
                f'{name}: JSON, but not COCO: its "{key}" are {shown(content[key])}, not a list; export the file again'
            )
    return content


def _drop_unused(entry: Entry) -> Entry:
    """Called for every object of the file, so that 40 million coordinates of outlines are never in memory together."""
    if "segmentation" in entry:
        try:
            x, y, width, height = entry["bbox"]
            if isfinite(x + y + width + height) and width > 0 and height > 0:
                del entry["segmentation"]
        except (KeyError, TypeError, ValueError, OverflowError):
            pass  # the outline gives the box
    for key in UNUSED:
        if key in entry:
            del entry[key]
    return entry


def _entries(content: Entry, key: str, name: str, report: SplitReport) -> tuple[list[Entry], list[int] | range]:
    """The objects of a list, or of an object keyed by id, with their places."""
    found = content.pop(key, None) or []
    if isinstance(found, dict):
        report.note(f"{key}_as_object", f'"{key}" is an object keyed by id, and is read as a list')
        found = [_keyed(id, value) for id, value in found.items()]
    if set(map(type, found)) <= {dict}:
        return found, range(len(found))
    numbers = [place for place, entry in enumerate(found) if isinstance(entry, dict)]
    others = [f"entry {place} is {shown(entry)}" for place, entry in enumerate(found) if not isinstance(entry, dict)]
    if key == "categories":
        report.refuse(
            "category_entry",
            'entries of "categories" are not objects such as {"id": 1, "name": "cup"}; correct',
            others,
        )
    else:
        unit: Unit = "image" if key == "images" else "annotation"
        report.skip(f"{unit}_entry", f'entries of "{key}" that are not objects', others, unit)
    return [found[number] for number in numbers], numbers


def _keyed(id: str, value: object) -> object:
    """An entry of an object keyed by id: without an id of its own, the key is its id; a text is its name."""
    if isinstance(value, str):
        return {"id": id, "name": value}
    return {"id": id, **value} if isinstance(value, dict) else value
