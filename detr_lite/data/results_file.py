"""Reads detections from a file in COCO's results format, of this or any other program."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.array_structures import Category, DetectionArrays
from detr_lite.data.formats.json_file import kind_of_json, read_json
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list, shown

_KEYS = ("image_id", "category_id", "bbox", "score")
_LARGEST = 1e9


def read_results(
    path: Path,
    image_ids: Sequence[int | str],
    categories: Sequence[Category],
    truth: str,
    file_names: Sequence[str] | None = None,
) -> tuple[DetectionArrays, tuple[str, ...]]:
    """The detections in the order of the images, and what there is to say about them.

    Args:
        image_ids: the dataset's own, by index.
        categories: of the dataset, by label.
        truth: how messages call the dataset.
        file_names: of the images, by index, where the dataset's format has no ids: other programs then write a file's
            name, with or without its suffix, or that as a number.

    Detections of categories that the dataset does not list are left out and counted. Ids that are numbers may be
    written as text ("1") or with a decimal point (1.0).

    Raises `DetrLiteError` for a file of another format, an entry that is not a detection, a score outside 0 to 1, and
    an image that the dataset does not have.
    """
    name = printable(path)
    entries = read_json(path, name)
    if isinstance(entries, dict) and isinstance(entries.get("images"), list):
        raise DetrLiteError(
            f"{name}: an annotation file with image numbers of its own, as predict writes it; evaluate writes "
            "detections under the dataset's image ids"
        )
    if not isinstance(entries, list):
        raise DetrLiteError(
            f"{name}: expected COCO's results format, a list of objects with {', '.join(_KEYS)}; it looks like "
            f"{kind_of_json(entries)}"
        )
    for place, entry in enumerate(entries):
        _check(entry, f"{name}: entry {place}")
    index_of = _index_of(image_ids) if file_names is None else _index_of_names(file_names, name)
    unknown = dict.fromkeys(entry["image_id"] for entry in entries if entry["image_id"] not in index_of)
    if unknown:
        listed = shorten_list([*map(shown, unknown)])
        raise DetrLiteError(
            f"{name}: has detections in images that {truth} does not have (image_id {listed}); "
            "give the dataset that was evaluated with --truth, and its split with --split"
        )
    label_of = _index_of([category.id for category in categories])
    labels = np.array([label_of.get(entry["category_id"], -1) for entry in entries], dtype=np.int64)
    foreign = dict.fromkeys(entry["category_id"] for entry in entries if entry["category_id"] not in label_of)
    if len(labels) and not (labels >= 0).any():
        known = shorten_list([category.id for category in categories])
        given = shorten_list([*map(shown, foreign)])
        raise DetrLiteError(
            f"{name}: none of its category ids ({given}) are in {truth}, which has {known}; "
            "number the categories of the detections as the dataset does"
        )
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    scores = np.array([entry["score"] for entry in entries], dtype=np.float64)
    images = np.array([index_of[entry["image_id"]] for entry in entries], dtype=np.int64)
    kept = np.flatnonzero(labels >= 0)
    kept = kept[np.argsort(images[kept], kind="stable")]
    left_out = len(labels) - len(kept)
    notes = (
        f"{left_out:,} of {len(labels):,} detections are of categories that {truth} does not list (category_id "
        f"{shorten_list([*map(shown, foreign)])}) and do not count",
    )
    return DetectionArrays(images, labels, boxes, scores).select(kept), notes if left_out else ()


def _check(entry: Any, place: str) -> None:
    if not isinstance(entry, dict):
        raise DetrLiteError(f"{place} is {shown(entry)}, not an object with {', '.join(_KEYS)}")
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        raise DetrLiteError(
            f"{place} has no {' and no '.join(missing)}; it has {shorten_list([*map(printable, entry)])}"
        )
    box, score = entry["bbox"], entry["score"]
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)):
        raise DetrLiteError(f"{place}: bbox is {shown(box)}; it must be [x, y, width, height] in pixels")
    if not _is_number(score):
        raise DetrLiteError(f"{place}: score is {shown(score)}, which is not a number")
    if not 0 <= score <= 1:
        raise DetrLiteError(
            f"{place}: score is {shown(score)}; scores lie from 0 to 1: divide percentages by 100, and put logits "
            "through a sigmoid"
        )
    for key in ("image_id", "category_id"):
        if not isinstance(entry[key], int | float | str) or isinstance(entry[key], bool):
            raise DetrLiteError(f"{place}: {key} is {shown(entry[key])}, which is neither a number nor a text")


def _is_number(value: object) -> bool:
    """Not one, either, that is too large to compute an area with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _index_of(image_ids: Sequence[int | str]) -> dict[int | str, int]:
    """By id; a number is also found when it is written as a text, as some programs do."""
    own: dict[int | str, int] = {image_id: index for index, image_id in enumerate(image_ids)}
    texts: dict[int | str, int] = {
        json.dumps(image_id): index for image_id, index in own.items() if type(image_id) is int
    }
    return {**texts, **own}


def _index_of_names(file_names: Sequence[str], name: str) -> dict[int | str, int]:
    """By file name, by the name without its suffix, and by the number that this is."""
    found: dict[int | str, int] = {}
    for index, file_name in enumerate(file_names):
        stem = Path(file_name).stem
        for key in dict.fromkeys((file_name, stem, *([int(stem)] if stem.isdecimal() else ()))):
            if found.setdefault(key, index) != index:
                raise DetrLiteError(
                    f"{name}: two images of the dataset are called {shown(key)}, so that its image_id may mean either; "
                    "convert the dataset to COCO, which has ids, and use those"
                )
    return found
