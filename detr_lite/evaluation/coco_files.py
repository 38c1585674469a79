"""Ground truth and results in COCO's format, as other programs write them, as arrays."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_lite.structures import Category, DetectionArrays, DetrLiteError, GroundTruth
from detr_lite.text import printable, shorten_list, shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CocoArrays:
    """What `evaluate_detections` and `explain_zero` need."""

    ground_truth: GroundTruth
    detections: DetectionArrays
    categories: tuple[Category, ...]
    image_ids: tuple[int | str, ...]
    sizes_wh: np.ndarray
    """(image, 2) in pixels; NaN where the file does not say."""


def from_coco(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> CocoArrays:
    """Arrays of the content of an annotation file and of a results file.

    Ids of images and categories may be numbers or text, and are the same if they are written the same: 7 is "7". Ids of
    annotations mean nothing here. `area` is the box's where it is missing or not positive. Annotations of unlisted
    images or categories, and detections of unlisted categories, are left out, as they are by pycocotools, with a
    warning that counts them.

    Raises `DetrLiteError` for what is missing or is no box or score, and for detections of unlisted images.
    """
    images, listed = _entries(ground_truth, "images"), _entries(ground_truth, "categories")
    image_index = _indices(images, "images")
    label = _indices(listed, "categories")
    annotations = _entries(ground_truth, "annotations") if "annotations" in ground_truth else []
    true_image, true_label = _places(annotations, image_index, label, "annotation")
    found_image, found_label = _places(results, image_index, label, "detection")
    unknown = [result["image_id"] for result, place in zip(results, found_image.tolist(), strict=True) if place < 0]
    if unknown:
        raise DetrLiteError(
            f"the detections have image_id {_listed(unknown)}, which the annotations do not list under "
            f'"images" ({_listed(image["id"] for image in images)}); evaluate against the annotations of the same '
            "images"
        )
    true_kept = _kept(true_image, true_label, "annotations")
    found_kept = _kept(found_image, found_label, "detections")
    boxes_xywh = _boxes([annotations[place] for place in true_kept], "annotation")
    areas = _numbers([annotations[place] for place in true_kept], "area", "annotation", missing=np.nan)
    crowd = _numbers([annotations[place] for place in true_kept], "iscrowd", "annotation", missing=0.0)
    names = [printable(category.get("name", category["id"])).strip() for category in listed]
    ids = [category["id"] for category in listed]
    return CocoArrays(
        GroundTruth(
            num_images=len(images),
            image_index=true_image[true_kept],
            labels=true_label[true_kept],
            boxes_xywh=boxes_xywh,
            areas=np.where(areas > 0, areas, boxes_xywh[:, 2] * boxes_xywh[:, 3]),
            is_crowd=crowd != 0,
        ),
        DetectionArrays(
            image_index=found_image[found_kept],
            labels=found_label[found_kept],
            boxes_xywh=_boxes([results[place] for place in found_kept], "detection"),
            scores=_numbers([results[place] for place in found_kept], "score", "detection"),
        ),
        categories=tuple(
            Category(id if isinstance(id, int) else number, name)
            for number, (id, name) in enumerate(zip(ids, names, strict=True), start=1)
        ),
        image_ids=tuple(id if isinstance(id, int) else printable(id) for id in (image["id"] for image in images)),
        sizes_wh=np.column_stack([_numbers(images, side, "image", missing=np.nan) for side in ("width", "height")]),
    )


def _entries(content: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DetrLiteError(f'the annotations have no list of objects "{key}"; give a file in COCO\'s format')
    return entries


def _indices(entries: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    """The place of each entry by its id; of the first, where several have the same."""
    places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if "id" not in entry:
            raise DetrLiteError(f'the annotations\' "{name}" entry {place} has no id: {shown(dict(entry))}')
        places.setdefault(_key(entry["id"]), place)
    return places


def _places(
    entries: Sequence[Mapping[str, Any]], image_index: Mapping[str, int], label: Mapping[str, int], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The image and the label of each entry; -1 where they are not listed."""
    try:
        image = [image_index.get(_key(entry["image_id"]), -1) for entry in entries]
        labels = [label.get(_key(entry["category_id"]), -1) for entry in entries]
    except (KeyError, TypeError) as error:
        bad = next(
            (
                entry
                for entry in entries
                if not isinstance(entry, Mapping) or not {"image_id", "category_id"} <= {*entry}
            ),
            error,
        )
        raise DetrLiteError(f"a {name} has no image_id or category_id: {shown(bad)}") from error
    return np.array(image, dtype=np.int64), np.array(labels, dtype=np.int64)


def _kept(image: np.ndarray, labels: np.ndarray, name: str) -> list[int]:
    keep = (image >= 0) & (labels >= 0)
    if not keep.all():
        logger.warning(
            f"{int((~keep).sum()):,} of {len(keep):,} {name} are of images or categories that the annotations do not "
            "list, and are left out"
        )
    return np.flatnonzero(keep).tolist()


def _boxes(entries: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    try:
        boxes_xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
        if len(boxes_xywh) != len(entries):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        bad = next((entry for entry in entries if not _is_box(entry.get("bbox"))), {})
        raise DetrLiteError(f"a {name} has no bbox of four numbers: {shown(dict(bad))}") from error
    if not np.isfinite(boxes_xywh).all():
        bad = entries[int(np.argmin(np.isfinite(boxes_xywh).all(axis=1)))]
        raise DetrLiteError(f"a {name} has a bbox that is not finite: {shown(dict(bad))}")
    return boxes_xywh


def _is_box(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(side, int | float) for side in value)


def _numbers(entries: Sequence[Mapping[str, Any]], key: str, name: str, missing: float | None = None) -> np.ndarray:
    """One number of each entry; `missing` where there is none, or an error."""
    try:
        values = [entry.get(key) for entry in entries]
        if missing is not None:
            values = [missing if value is None else value for value in values]
        numbers = np.array(values, dtype=np.float64)
        is_bad = ~np.isfinite(numbers) if missing is None else np.zeros(len(numbers), dtype=bool)
        if numbers.shape != (len(entries),) or is_bad.any():
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        bad = next((entry for entry in entries if not _is_finite(entry.get(key), missing)), {})
        raise DetrLiteError(f"a {name} has no finite {key}: {shown(dict(bad))}") from error
    return numbers


def _is_finite(value: object, missing: float | None) -> bool:
    if value is None:
        return missing is not None
    return isinstance(value, int | float) and (missing is not None or bool(np.isfinite(value)))


def _key(id: object) -> str:
    return str(int(id)) if isinstance(id, float) and id.is_integer() else str(id)


def _listed(ids: Iterable[object]) -> str:
    return shorten_list(list(dict.fromkeys(printable(id) for id in ids)))
