"""Parses a COCO annotation file and checks every entry, before training starts.

All functions raise `DetrLiteError` in one line that names the file, the entry and the remedy.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import STEERS, shown

MAX_NAME_LENGTH = 1000
"""Characters in a category's name."""


@dataclass(frozen=True)
class Objects:
    """All annotations of a file as arrays, in file order."""

    image_index: Int64[np.ndarray, " annotation"]
    """Index of the annotation's image in "images"."""
    labels: Int64[np.ndarray, " annotation"]
    boxes_xywh: Float64[np.ndarray, "annotation 4"]
    is_crowd: Bool[np.ndarray, " annotation"]


def read_content(file: Path, name: str) -> dict[str, Any]:
    """Parse the file and check that it has COCO's three lists. Errors refer to the file as `name`."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DetrLiteError(f"{name}: cannot be read ({error.strerror}); check {file}") from error
    except (ValueError, RecursionError) as error:
        reason = f"{error}".replace("\n", " ")
        raise DetrLiteError(
            f"{name}: not valid JSON ({reason}); the file is cut off or damaged, copy or create it again"
        ) from error
    if not isinstance(content, dict):
        raise DetrLiteError(
            f"{name}: JSON, but not COCO: it contains a {type(content).__name__} instead of an object with "
            '"images", "annotations" and "categories"; convert it to COCO format'
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            fault = f'"{key}" is not a list' if key in content else f'it has no "{key}"'
            raise DetrLiteError(f"{name}: JSON, but not COCO: {fault}; convert it to COCO format")
    return content


def _check_entry(name: str, key: str, position: int, entry: Any, fields: Sequence[str]) -> None:
    """Check that an entry of a list has these fields, and an integer as its id."""
    if not isinstance(entry, dict):
        raise DetrLiteError(f'{name}: entry {position} of "{key}" is {shown(entry)}, not an object; remove it')
    for field in fields:
        if field not in entry:
            with_id = f" (id {shown(entry['id'])})" if "id" in entry else ""
            raise DetrLiteError(
                f'{name}: entry {position} of "{key}"{with_id} has no "{field}"; add it or remove the entry'
            )
    if type(entry["id"]) is not int:
        raise DetrLiteError(
            f'{name}: entry {position} of "{key}" has id {shown(entry["id"])}, which is not an integer; correct it'
        )


def check_name(id: int, name: object, where: str = "") -> None:
    """Refuse a category name that cannot be printed in one line; errors begin with `where`."""
    if not isinstance(name, str):
        fault = "is not a string"
    elif STEERS.search(name):
        fault = "contains control characters"
    elif len(name) > MAX_NAME_LENGTH:
        fault = f"is longer than {MAX_NAME_LENGTH:,} characters"
    else:
        return
    raise DetrLiteError(f"{where}category {id} has the name {shown(name)}, which {fault}; correct it")


def read_categories(content: dict[str, Any], name: str) -> tuple[Category, ...]:
    """The categories in ascending order of id."""
    by_id: dict[int, str] = {}
    for position, entry in enumerate(content["categories"]):
        _check_entry(name, "categories", position, entry, ("id", "name"))
        check_name(entry["id"], entry["name"], f"{name}: ")
        if entry["id"] in by_id:
            raise DetrLiteError(f"{name}: category id {entry['id']} is listed twice; keep one of the two")
        if entry["name"] in by_id.values():
            raise DetrLiteError(
                f"{name}: category {entry['id']} repeats the name {shown(entry['name'])}; rename one of the two"
            )
        by_id[entry["id"]] = entry["name"]
    if not by_id:
        raise DetrLiteError(f'{name}: "categories" is empty; list the classes of objects there')
    return tuple(Category(id, by_id[id]) for id in sorted(by_id))


def check_images(content: dict[str, Any], name: str) -> None:
    """Check that every image has a unique id, a file name and a positive size. The image files are not opened."""
    seen: set[int] = set()
    for position, entry in enumerate(content["images"]):
        _check_entry(name, "images", position, entry, ("id", "file_name", "width", "height"))
        if entry["id"] in seen:
            raise DetrLiteError(f"{name}: image id {entry['id']} is listed twice; give each image a unique id")
        seen.add(entry["id"])
        if not isinstance(entry["file_name"], str):
            raise DetrLiteError(
                f"{name}: image {entry['id']} has file_name {shown(entry['file_name'])}, which is not a string; "
                "correct it"
            )
        for side in ("width", "height"):
            if type(entry[side]) is not int or not 0 < entry[side] < 1_000_000:
                raise DetrLiteError(
                    f"{name}: image {entry['id']} has {side} {shown(entry[side])}; it must be the file's {side} "
                    "in pixels, a positive integer"
                )
    if not seen:
        raise DetrLiteError(f'{name}: "images" is empty; list the images there')


def read_objects(content: dict[str, Any], name: str, categories: Sequence[Category]) -> Objects:
    """Check every annotation, and fill in `area` and `iscrowd` where the file leaves them out."""
    index_of = {image["id"]: index for index, image in enumerate(content["images"])}
    label_of = {category.id: label for label, category in enumerate(categories)}
    seen: set[int] = set()
    rows: list[tuple[float, ...]] = []
    # COCO has 860,000 annotations, so the loop only decides; the error message is composed after a failure.
    for position, entry in enumerate(content["annotations"]):
        try:
            id, index, label = entry["id"], index_of[entry["image_id"]], label_of[entry["category_id"]]
            x, y, width, height = entry["bbox"]
            if entry.get("area") is None:
                entry["area"] = float(width) * float(height)  # float() because "ab" * 2 is a string
            if entry.get("iscrowd") is None:
                entry["iscrowd"] = 0
            is_valid = (
                isfinite(x)
                and isfinite(y)
                and isfinite(width)
                and isfinite(height)
                and width >= 0
                and height >= 0
                and isfinite(entry["area"])
                and entry["iscrowd"] in (0, 1)
                and type(id) is int
                and id not in seen
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise _annotation_error(name, position, entry, index_of, label_of, seen)
        seen.add(id)
        rows.append((index, label, entry["iscrowd"], x, y, width, height))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return Objects(
        image_index=columns[:, 0].astype(np.int64),
        labels=columns[:, 1].astype(np.int64),
        boxes_xywh=columns[:, 3:],
        is_crowd=columns[:, 2] == 1,
    )


def _annotation_error(
    name: str, position: int, entry: Any, index_of: dict[int, int], label_of: dict[int, int], seen: set[int]
) -> DetrLiteError:
    """The error for an annotation that is not valid."""
    try:
        _check_entry(name, "annotations", position, entry, ("id", "image_id", "category_id", "bbox"))
    except DetrLiteError as error:
        return error
    entry_name = f"{name}: annotation {entry['id']}"
    if entry["id"] in seen:
        return DetrLiteError(f"{name}: annotation id {entry['id']} is listed twice; give each annotation a unique id")
    for field, known, key, noun in (
        ("category_id", label_of, "categories", "category"),
        ("image_id", index_of, "images", "image"),
    ):
        if entry[field] not in list(known):
            return DetrLiteError(
                f'{entry_name} has {field} {shown(entry[field])}, which "{key}" does not list; '
                f"add the {noun} or remove the annotation"
            )
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(number) for number in box):
        return DetrLiteError(
            f"{entry_name} has bbox {shown(box)}; it must be four finite numbers [x, y, width, height]; "
            "correct it or remove the annotation"
        )
    if box[2] < 0 or box[3] < 0:
        return DetrLiteError(
            f"{entry_name} has a box of negative size, width {box[2]} and height {box[3]}; "
            "COCO boxes are [x, y, width, height], correct it or remove the annotation"
        )
    field, rule = ("iscrowd", "0 or 1") if _is_finite(entry["area"]) else ("area", "a finite number")
    return DetrLiteError(f"{entry_name} has {field} {shown(entry[field])}; it must be {rule}, or left out")


def _is_finite(number: object) -> bool:
    try:
        return isinstance(number, int | float) and isfinite(number)
    except OverflowError:
        return False
