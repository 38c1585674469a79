"""The entries of a COCO file as arrays: ids looked up, numbers in quotes converted, boxes taken from outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_lite.array_structures import Category
from detr_lite.data.categories import tidy_categories
from detr_lite.data.formats.coco_json import CocoLists, Entry
from detr_lite.data.formats.outlines import outline_box
from detr_lite.data.formats.values import IdIndex, boxes_of, id_of, number_of, numbers_of
from detr_lite.data.packed import ImageId
from detr_lite.data.report import SplitReport
from detr_lite.text import shorten_list, shown

MAX_SIDE = 1_000_000
"""Pixels; what is longer is no size."""


@dataclass(frozen=True)
class ImageColumns:
    """The images that are listed, each id once."""

    ids: list[ImageId]
    names: list[str]
    sizes_wh: Float64[np.ndarray, "image 2"]
    """NaN where the file does not say, or not in whole pixels."""
    index: IdIndex


@dataclass(frozen=True)
class AnnotationColumns:
    """The annotations that can be used, in file order."""

    image_index: Int64[np.ndarray, " annotation"]
    labels: Int64[np.ndarray, " annotation"]
    boxes_xywh: Float64[np.ndarray, "annotation 4"]
    areas: Float64[np.ndarray, " annotation"]
    is_crowd: Bool[np.ndarray, " annotation"]
    places: Int64[np.ndarray, " annotation"]
    """In the file's list, without the entries that are not objects."""


def read_images(entries: Sequence[Entry], report: SplitReport) -> ImageColumns:
    """Leaves out images without an id or a name, and refuses one id for several files."""
    place_of: dict[ImageId, int] = {}
    kept: list[int] = []
    without: list[str] = []
    repeated: list[object] = []
    conflicting: list[str] = []
    for place, entry in enumerate(entries):
        id, name = id_of(entry.get("id")), entry.get("file_name")
        if id is None or not isinstance(name, str) or not name:
            without.append(f'entry {place} of "images": id {shown(entry.get("id"))}, file_name {shown(name)}')
        elif id not in place_of:
            place_of[id] = place
            kept.append(place)
        elif entries[place_of[id]]["file_name"] == name:
            repeated.append(name)
        else:
            conflicting.append(f"{shown(id)} of {shown(entries[place_of[id]]['file_name'])} and {shown(name)}")
    if without:
        report.skip("image_without_name", "images without an id or a file_name", without, unit="image")
    if repeated:
        report.note("repeated_image_entry", "images are listed twice under one id, and used once", repeated)
    if conflicting:
        report.refuse(
            "repeated_image_id",
            "image ids are listed for several files; give each image an id of its own, and its annotations too",
            conflicting,
        )
    ids = list(place_of)
    text_ids = [id for id in ids if isinstance(id, str)]
    if text_ids:
        report.note("text_image_ids", "image ids are text", text_ids)
    sides = [numbers_of([entries[place].get(side) for place in kept]) for side in ("width", "height")]
    sizes_wh = np.stack([numbers for numbers, _ in sides], axis=1)
    is_size = (sizes_wh > 0) & (sizes_wh < MAX_SIDE) & (sizes_wh == np.floor(sizes_wh))
    names = [entries[place]["file_name"] for place in kept]
    if quoted := sorted({place for _, places in sides for place in places}):
        report.note(
            "quoted_sizes", "width and height in quotes are converted to numbers", [names[place] for place in quoted]
        )
    if not ids:
        report.refuse("no_images", '"images" lists no image; list the images there')
    return ImageColumns(ids, names, np.where(is_size.all(axis=1, keepdims=True), sizes_wh, np.nan), IdIndex(ids))


def read_categories(
    entries: Sequence[Entry], report: SplitReport
) -> tuple[tuple[Category, ...], IdIndex, Int64[np.ndarray, " listed"]]:
    """The categories, an index of the ids in the file, and the label of each of the listed ids."""
    found: dict[ImageId, object] = {}
    for place, entry in enumerate(entries):
        id, name = id_of(entry.get("id")), entry.get("name")
        if id is None:
            report.refuse(
                "category_id",
                f'entry {place} of "categories", {shown(name)}, has id {shown(entry.get("id"))}; give it a number',
            )
        elif found.setdefault(id, name) != name:
            report.refuse(
                "repeated_category_id",
                f"category id {shown(id)} is listed for {shown(found[id])} and {shown(name)}; give each its own id",
            )
    numbers = [int(number) if (number := number_of(id)).is_integer() else None for id in found]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(found) + 1))
        report.note("text_category_ids", "category ids are not numbers; they are numbered in file order", found)
    categories, labels = tidy_categories([id for id in numbers if id is not None], list(found.values()), report)
    return categories, IdIndex(list(found)), labels


def read_annotations(
    lists: CocoLists, images: ImageColumns, categories: IdIndex, labels: Int64[np.ndarray, " listed"],
    report: SplitReport
) -> AnnotationColumns:  # fmt: skip
    """Leaves out what has no listed image or no box, and refuses unlisted categories."""
    entries = lists.annotations

    def column(key: str, places: Sequence[int] | None = None) -> list[Any]:
        return [entry.get(key) for entry in entries] if places is None else [entries[p].get(key) for p in places]

    def names(places: Any) -> list[str]:
        return [lists.name_annotation(int(place)) for place in places]

    image_index, quoted_images = images.index.of(column("image_id"))
    is_listed = image_index >= 0
    if not is_listed.all():
        _report_unlisted_images(lists, images, is_listed, report)
    category_index, quoted_categories = categories.of(column("category_id"))
    is_known = category_index >= 0
    if (is_listed & ~is_known).any():
        _report_unlisted_categories(lists, np.flatnonzero(is_listed & ~is_known).tolist(), report)

    boxes_xywh, quoted_boxes, oriented = boxes_of(column("bbox"))
    if oriented:
        report.refuse(
            "oriented_box",
            "boxes have five numbers, the last probably an angle; write upright boxes [x, y, width, height]",
            names(oriented),
        )
    areas, quoted_areas = numbers_of(column("area"))
    is_crowd, quoted_crowds, odd_crowds = _crowds(column("iscrowd"))
    quoted = sorted({*quoted_images, *quoted_categories, *quoted_boxes, *quoted_areas, *quoted_crowds})
    if quoted:
        report.note("quoted_numbers", "numbers in quotes are converted", names(quoted))

    keep = is_listed & is_known
    if odd_crowds:
        report.skip("odd_iscrowd", "annotations whose iscrowd is neither 0 nor 1", names(odd_crowds), unit="annotation")
        keep[odd_crowds] = False
    is_without = keep & ((boxes_xywh[:, 2:] == 0).any(axis=1) | ~np.isfinite(boxes_xywh).all(axis=1))
    is_without[oriented] = False
    if is_without.any():
        _take_boxes_from_outlines(lists, boxes_xywh, keep, np.flatnonzero(is_without).tolist(), report)
    places = np.flatnonzero(keep)
    return AnnotationColumns(
        image_index[keep],
        labels[category_index[keep]],
        boxes_xywh[keep],
        np.where(np.isfinite(areas[keep]), areas[keep], np.nan),
        is_crowd[keep],
        places,
    )


def _report_unlisted_images(
    lists: CocoLists, images: ImageColumns, is_listed: Bool[np.ndarray, " annotation"], report: SplitReport
) -> None:
    unlisted = np.flatnonzero(~is_listed).tolist()
    ids = [shown(lists.annotations[place].get("image_id")) for place in unlisted]
    if not is_listed.any() and images.ids:
        report.refuse(
            "unlisted_images",
            f"no annotation is of a listed image: annotations have the image_id {shorten_list(ids, 2)}, images the id "
            f"{shorten_list([shown(id) for id in images.ids], 2)}; make these agree",
        )
        return
    report.note(
        "unlisted_image",
        "annotations of images that are not listed are left out",
        [f"{lists.name_annotation(place)} of image {id}" for place, id in zip(unlisted, ids, strict=True)],
    )
    report.totals["annotation"] -= len(unlisted)


def _report_unlisted_categories(lists: CocoLists, places: list[int], report: SplitReport) -> None:
    ids = dict.fromkeys(shown(lists.annotations[place].get("category_id")) for place in places)
    report.refuse(
        "unlisted_category",
        f'annotations have category_id {shorten_list(list(ids))}, which "categories" does not list; add '
        f"{'it' if len(ids) == 1 else 'these'} there, or remove the annotations",
        [lists.name_annotation(place) for place in places],
    )


def _crowds(values: list[Any]) -> tuple[Bool[np.ndarray, " value"], list[int], list[int]]:
    """Whether each is true; the places of those in quotes, and of those that are neither true nor false."""
    try:
        if set(values) <= {0, 1, None}:
            return np.array([bool(value) for value in values], dtype=bool), [], []
    except TypeError:  # a list or an object
        pass
    flags = {"false": 0.0, "true": 1.0}
    numbers = [
        float(value or 0) if value is None or isinstance(value, bool)
        else flags.get(value.strip().lower(), number_of(value)) if isinstance(value, str)
        else number_of(value)
        for value in values
    ]  # fmt: skip
    odd = [place for place, number in enumerate(numbers) if number not in (0, 1)]
    quoted = [place for place, value in enumerate(values) if isinstance(value, str) and numbers[place] in (0, 1)]
    return np.array([number == 1 for number in numbers], dtype=bool), quoted, odd


def _take_boxes_from_outlines(
    lists: CocoLists, boxes_xywh: Float64[np.ndarray, "annotation 4"], keep: Bool[np.ndarray, " annotation"],
    places: list[int], report: SplitReport
) -> None:  # fmt: skip
    """Fill in boxes in place; annotations without box and outline are no longer kept."""
    outlines = {place: outline_box(lists.annotations[place].get("segmentation")) for place in places}
    boxes = {place: box for place, box in outlines.items() if box is not None and box[2] > 0 and box[3] > 0}
    without = [place for place in places if place not in boxes and not _has_four(lists.annotations[place].get("bbox"))]
    if boxes:
        if report.repair(
            "box_from_outline",
            "annotations without a box",
            "get that of their outline",
            map(lists.name_annotation, boxes),
        ):
            boxes_xywh[list(boxes)] = list(boxes.values())
        else:
            keep[list(boxes)] = False
    if without:
        names = map(lists.name_annotation, without)
        report.skip(
            "no_box", "annotations with neither a box [x, y, width, height] nor an outline", names, "annotation"
        )
        keep[without] = False


def _has_four(box: object) -> bool:
    """Whether it is a box, though its numbers may be none; these are judged with all others."""
    return isinstance(box, list) and len(box) == 4 and not any(isinstance(value, list | dict) for value in box)
